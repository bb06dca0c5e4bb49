// Which offloaded weight is read into a device's staging buffer next, and to where.
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
// is used as a ring. Weights in order are used in every step and read in the order in which they were added, round and
// round, as far ahead as there is room. Experts are read once they are expected; what follows them in order waits until
// then, behind a barrier.
//
// Two parties ask it. A reader fills what StartRead says and reports to FinishRead, one read after the other. A
// computing thread acquires weights, computes from them and releases them. A weight's bytes are the reader's from
// StartRead to FinishRead and the computing thread's from Acquire to Release; in both spans no read is given any of
// them.
//
// The ring has no lock: whoever shares it between threads makes all calls under one mutex. Each call may change what
// Next and CanAcquire say.
//
// The next Acquire is always served in the end where the buffer has room for the largest weight in order and for twice
// the weights of the largest expert, and where one weight in order, or the weights of one expert, are acquired and
// released before the next. Room for two neighbours in order lets one be read while the other is computed from, unless
// what is free of it lies on both sides of that one.
class StagingRing {
 public:
  explicit StagingRing(int64_t bytes) : bytes_(bytes) {}  // of the buffer

  // While the model is built, in the order of use. Ids count up from 0. `in_cpu_memory`: the CPU can compute from it
  // where it lies. REQUIRES: before the first read all of them fit in the buffer.
  int AddInOrder(int64_t bytes, bool in_cpu_memory);
  // Experts of one layer follow each other.
  int AddExpert(int layer, int64_t bytes, bool in_cpu_memory);

  // Up to how many rows the CPU computes from its memory: of an expert's own, and of a step for what is in order.
  struct CpuRows {
    int64_t experts = 0, in_order = 0;
  };
  // Before the first read; without it the CPU computes nothing.
  void SetCpuRows(CpuRows rows);
  const CpuRows& cpu_rows() const { return cpu_rows_; }

  // The reader's.
  struct Read {
    int id = 0;
    int64_t offset = 0;
  };
  // What StartRead would say now; nothing where there is nothing to read, no room, or a read under way.
  std::optional<Read> Next() const;
  Read StartRead();                      // REQUIRES: Next() has a value
  void FinishRead(absl::Status status);  // REQUIRES: a read is under way

  // The computing thread's.
  struct Use {
    int id = 0;
    int64_t rows = 0;
  };
  struct Acquired {
    enum class State : uint8_t { kReady, kOnCpu, kWait, kFailed };
    State state = State::kWait;
    int64_t offset = 0;   // kReady: where its bytes are until Release
    absl::Status status;  // kFailed: what the read ended with; it is read again when it is acquired again
  };
  // How many rows the step has that begins.
  void BeginStep(int64_t rows);
  // Experts that are about to be acquired, in this order, for so many rows each. Those expected before are forgotten.
  void Expect(const std::vector<Use>& uses);
  // kWait: nothing is acquired yet. Ask again once CanAcquire. What was read ahead in vain is dropped: in order of use,
  // nothing is. kOnCpu: nothing has to be released.
  Acquired Acquire(int id);
  bool CanAcquire() const;  // the weight that Acquire had wait has been read, or has failed
  // False where it is not acquired, as when the CPU computed from it.
  bool Release(int id);
  // After a step that failed: nothing is acquired any more, and what was read ahead is dropped. Returns what was
  // acquired.
  std::vector<int> ReleaseAll();

 private:
  static constexpr int kBarrier = -1;  // in order_: what follows waits for Expect
  static constexpr int kNothing = -2;

  struct Weight {
    int64_t bytes = 0;
    bool in_cpu_memory = false;
    bool in_order = true;
    int64_t rows = 1;     // of an expert: for how many it is expected
    size_t position = 0;  // in order_; of an expert, that of the barrier before it
  };
  // A stretch of the buffer. Oldest first; those acquired are before those that are not.
  struct Slot {
    int id = 0;
    int64_t offset = 0, bytes = 0;
    bool read = false, acquired = false, released = false;  // only the last one may be not read
    absl::Status status;
  };

  int Add(const Weight& weight);
  bool OnCpu(const Weight& weight) const;  // in this step
  int NextId() const;                      // what is to be read once there is room, or kNothing
  std::optional<int64_t> Room(int64_t bytes) const;
  void GoTo(size_t position);  // in order_, or what comes behind it
  void SkipOnCpu();
  size_t FirstUnacquired() const;  // in slots_, or their number
  void DropUnacquired();
  void PopReleased();

  const int64_t bytes_;
  std::vector<Weight> weights_;  // by id
  std::vector<int> order_;       // ids as steps use them, and barriers
  std::optional<int> layer_of_last_barrier_;
  CpuRows cpu_rows_;
  std::deque<Slot> slots_;
  std::deque<int> expected_;  // read before what follows in order_
  size_t cursor_ = 0;         // in order_, of reading
  size_t used_ = 0;           // in order_, of computing
  int64_t step_rows_ = 1;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STAGING_STAGING_RING_H_
