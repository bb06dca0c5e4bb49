// Bars and sizes for people. Everything is drawn to standard error, so that standard output can be piped.
#ifndef CAUSEWAY_CLIENT_PROGRESS_H_
#define CAUSEWAY_CLIENT_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace causeway {

// A bar of `cells` cells, filled to `fraction` (cut to [0, 1]) in eighths of a cell.
std::string Bar(double fraction, int cells);
// "1.5 GiB", "512.0 MiB", "17 B".
std::string Bytes(int64_t bytes);
// "4.2 s", "3 min 05 s", "2 h 04 min".
std::string Duration(double seconds);

// On a terminal it draws one line again and again, at most ten times a second. Elsewhere it writes a line every ten
// seconds. Thread-safe.
class Progress {
 public:
  // `what` names the units: "requests".
  Progress(std::string what, int64_t total, int64_t done = 0);
  void Add(int64_t done, const std::string& note = "");
  void Finish();

 private:
  void Draw(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string what_;
  const int64_t total_, done_before_;
  const bool terminal_;
  const absl::Time start_;
  absl::Mutex mutex_;
  int64_t done_ ABSL_GUARDED_BY(mutex_);
  std::string note_ ABSL_GUARDED_BY(mutex_);
  absl::Time drawn_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int64_t drawn_done_ ABSL_GUARDED_BY(mutex_) = -1;
};

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_PROGRESS_H_
