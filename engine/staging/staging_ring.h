// Decides which offloaded weight is read into a device's staging buffer next, and to where.
#ifndef CAUSEWAY_ENGINE_STAGING_STAGING_RING_H_
#define CAUSEWAY_ENGINE_STAGING_STAGING_RING_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/status.h"

namespace causeway {

// The policy of prefetching, without the memory: weights are ids and sizes, and places are offsets into a buffer that
// is used as a ring. Weights "in order" are used in every step. They are read in the order in which they were added,
// round and round, as far ahead as there is room. Experts are read once they are expected: a barrier stands in the
// order for them, and what comes after the barrier waits until then.
//
// Two threads ask it. A reader fills what StartRead says and reports to FinishRead, one read after the other. A
// computing thread acquires weights, computes from them and releases them. A weight's bytes belong to the reader from
// StartRead to FinishRead, and to the computing thread from Acquire to Release. No other read is given any of them
// meanwhile.
//
// The ring has no lock: threads that share it make all calls under one mutex. Each call may change what Next and
// CanAcquire say.
//
// The next Acquire is always served in the end, on two conditions. The buffer has room for the largest weight in order
// and for twice the weights of the largest expert. And one weight in order, or the weights of one expert, are acquired
// and released before the next. With room for two neighbours in order, one can be read while the other is computed
// from, unless the free room lies partly before and partly after the other.
class StagingRing {
 public:
  explicit StagingRing(int64_t bytes) : bytes_(bytes) {}  // the size of the buffer

  // Adds a weight in the order of use, while the model is built. Ids count up from 0. `in_cpu_memory`: the CPU can
  // compute from it where it lies. REQUIRES: before the first read all of them fit in the buffer.
  int AddInOrder(int64_t bytes, bool in_cpu_memory);
  // Adds an expert's weight. The experts of one layer follow each other.
  int AddExpert(int layer, int64_t bytes, bool in_cpu_memory);

  // The CPU computes from its own memory up to this many rows: an expert's rows for experts, and the step's rows for
  // weights in order.
  struct CpuRows {
    int64_t experts = 0, in_order = 0;
  };
  // To be called before the first read. Without it the CPU computes nothing.
  void SetCpuRows(CpuRows rows);
  const CpuRows& cpu_rows() const { return cpu_rows_; }

  // The reader calls these.
  struct Read {
    int id = 0;
    int64_t offset = 0;
  };
  // What StartRead would return now. It is empty where there is nothing to read, no room, or a read under way.
  std::optional<Read> Next() const;
  Read StartRead();                      // REQUIRES: Next() has a value
  void FinishRead(absl::Status status);  // REQUIRES: a read is under way

  // The computing thread calls these.
  struct Use {
    int id = 0;
    int64_t rows = 0;
  };
  struct Acquired {
    enum class State : uint8_t { kReady, kOnCpu, kWait, kFailed };
    State state = State::kWait;
    int64_t offset = 0;   // kReady: where its bytes are until Release
    absl::Status status;  // kFailed: the read's error; the weight is read again when it is acquired again
  };
  // Says how many rows the step has that begins.
  void BeginStep(int64_t rows);
  // Names the experts that are about to be acquired, in this order, and the rows of each. Those expected before are
  // forgotten.
  void Expect(const std::vector<Use>& uses);
  // kWait: nothing is acquired yet; ask again once CanAcquire says so. Weights that were prefetched in vain are
  // dropped, which never happens in the order of use. kOnCpu: nothing has to be released.
  Acquired Acquire(int id);
  bool CanAcquire() const;  // the weight that Acquire had wait has been read, or has failed
  // Returns false where the weight is not acquired, as when the CPU computed from it.
  bool Release(int id);
  // To be called after a step that failed: nothing is acquired any more, and what was prefetched is dropped. Returns
  // what was acquired.
  std::vector<int> ReleaseAll();

 private:
  static constexpr int kBarrier = -1;  // in order_: what follows waits for Expect
  static constexpr int kNothing = -2;

  struct Weight {
    int64_t bytes = 0;
    bool in_cpu_memory = false;
    bool in_order = true;
    int64_t rows = 1;     // how many rows an expert is expected for
    size_t position = 0;  // in order_; an expert has the position of the barrier before it
  };
  // A stretch of the buffer. The oldest slot comes first, and acquired slots come before the others.
  struct Slot {
    int id = 0;
    int64_t offset = 0, bytes = 0;
    bool read = false, acquired = false, released = false;  // only the last slot may be unread
    absl::Status status;
  };

  int Add(const Weight& weight);
  bool OnCpu(const Weight& weight) const;  // whether the CPU computes from it in this step
  int NextId() const;                      // what to read once there is room, or kNothing
  std::optional<int64_t> Room(int64_t bytes) const;
  void GoTo(size_t position);  // to this position in order_, or past the weights that the CPU computes from
  void SkipOnCpu();
  size_t FirstUnacquired() const;  // a position in slots_, or their number
  void DropUnacquired();
  void PopReleased();

  const int64_t bytes_;
  std::vector<Weight> weights_;  // by id
  std::vector<int> order_;       // ids as steps use them, and barriers
  std::optional<int> layer_of_last_barrier_;
  CpuRows cpu_rows_;
  std::deque<Slot> slots_;
  std::deque<int> expected_;  // ids that are read before order_ goes on
  size_t cursor_ = 0;         // the position in order_ where reading is
  size_t used_ = 0;           // the position in order_ where computing is
  int64_t step_rows_ = 1;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STAGING_STAGING_RING_H_
