// Shows how loading goes: a bar that redraws itself on a terminal, else a log line every few seconds.
#ifndef CAUSEWAY_SERVER_DAEMON_LOAD_METER_H_
#define CAUSEWAY_SERVER_DAEMON_LOAD_METER_H_

#include <string>

#include "absl/time/time.h"
#include "engine/execution/executor.h"

namespace causeway {

// One thread at a time.
class LoadMeter {
 public:
  explicit LoadMeter(bool terminal);

  void Update(const LoadProgress& progress);
  // Call once loading is over, well or not: ends the bar's line.
  void Finish();

  // "  42%  1.2 GiB of 2.9 GiB  1.40 GB/s"
  static std::string Line(const LoadProgress& progress, double seconds);

 private:
  const bool terminal_;
  const absl::Time start_;
  absl::Time shown_ = absl::InfinitePast();
  bool drawn_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_LOAD_METER_H_
