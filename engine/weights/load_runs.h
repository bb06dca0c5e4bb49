// What loading is cut into, and the order in which readers take it on.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_LOAD_RUNS_H_
#define CAUSEWAY_ENGINE_WEIGHTS_LOAD_RUNS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/weights/targets.h"

namespace causeway {

// What one reader does without a look around: rows [first, first + count) of a linear as held, or (linear null) a
// vector.
struct LoadTask {
  const LinearTarget* linear = nullptr;
  const VectorTarget* vector = nullptr;
  int portion = 0;
  int64_t first = 0, count = 0;
  std::pair<int, uint64_t> place;  // file and offset: read in this order
  int64_t bytes = 0;               // as held, about

  bool operator<(const LoadTask& other) const {
    return std::tie(portion, place) < std::tie(other.portion, other.place);
  }
};

// Deals a portion of tasks out to `readers` readers, in runs of neighbours. Thread-safe.
class LoadRuns {
 public:
  LoadRuns(absl::Span<const LoadTask> tasks, int readers) : readers_(readers), tasks_(tasks) {
    for (const LoadTask& task : tasks) left_ += task.bytes;
  }

  // Empty: there are no more.
  absl::Span<const LoadTask> Next() {
    absl::MutexLock lock(&mutex_);
    const int64_t goal = std::min(kRunBytes, left_ / (kRunsLeft * readers_));
    size_t count = 0;
    for (int64_t bytes = 0; count < tasks_.size() && (count == 0 || bytes + tasks_[count].bytes <= goal); ++count)
      bytes += tasks_[count].bytes;
    const absl::Span<const LoadTask> run = tasks_.first(count);
    for (const LoadTask& task : run) left_ -= task.bytes;
    tasks_.remove_prefix(count);
    return run;
  }
  void Drop() {
    absl::MutexLock lock(&mutex_);
    tasks_ = {};
  }

 private:
  // What a reader takes on at once. Neighbouring rows lie in one huge page: two readers that first touch it at the same
  // time both clear it, and one of them for nothing.
  static constexpr int64_t kRunBytes = int64_t{16} << 20;
  // LoadRuns that are left for each reader, at least, while there is more than that to do: all end at about the same
  // time.
  static constexpr int64_t kRunsLeft = 2;

  const int64_t readers_;
  absl::Mutex mutex_;
  absl::Span<const LoadTask> tasks_ ABSL_GUARDED_BY(mutex_);
  int64_t left_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes of those
};

// Asks for the files' next bytes while those before them are packed: what is not in memory yet then comes as fast as
// the disk reads. One thread at a time.
class ReadAhead {
 public:
  explicit ReadAhead(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // Whether some of what was asked for now comes from the disk.
  bool Reached(std::pair<int, uint64_t> place) {
    if (place.first != file_) file_ = place.first, asked_ = place.second;
    if (asked_ > place.second + kAhead / 2) return false;
    bool from_disk = false;
    // The kernel answers one request with so much and no more.
    for (; asked_ < place.second + kAhead; asked_ += kStep) from_disk |= checkpoint_.WillRead(file_, asked_, kStep);
    return from_disk;
  }

 private:
  static constexpr uint64_t kAhead = uint64_t{32} << 20, kStep = uint64_t{128} << 10;
  const Checkpoint& checkpoint_;
  int file_ = -1;
  uint64_t asked_ = 0;  // up to here, of file_
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_LOAD_RUNS_H_
