// The kernels run regions of the calling thread's team (engine/threads/team.h) through these functions.

#include "engine/threads/team.h"

namespace causeway::cpu::CAUSEWAY_ISA {

// There are enough pieces that others do the part of a thread that comes late or runs slowly.
constexpr int64_t kPiecesPerThread = 8;

// Runs on all threads where `shared`, and on this thread alone otherwise.
CAUSEWAY_INLINE void RunRegionIf(bool shared, RegionWork work, const void* context, int64_t context_bytes,
                                 int64_t tasks) {
  if (shared) return RunRegion(work, context, context_bytes, tasks);
  RunAlone(work, context, context_bytes, tasks);
}

// Calls body(begin, end) for pieces of [0, count), on all threads where `shared`. One thread does each piece, once.
template <class Body>
static void ForPieces(bool shared, int64_t count, const Body& body) {
  if (!shared) return body(0, count);
  const int64_t wished = kPiecesPerThread * TeamThreads();
  struct Context {
    const Body* body;
    int64_t count, pieces;
  } context{&body, count, count < wished ? count : wished};
  RunRegion(
      [](const void* of, int64_t, RegionTasks& tasks) {
        const Context c = *static_cast<const Context*>(of);
        while (tasks.Next()) {
          if (tasks.Own()) (*c.body)(c.count* tasks.task / c.pieces, c.count * (tasks.task + 1) / c.pieces);
        }
      },
      &context, sizeof(context), context.pieces);
}

// Calls body(i) for each i of [0, count).
template <class Body>
static void ForEachOf(bool shared, int64_t count, const Body& body) {
  ForPieces(shared, count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
