// Shows how loading goes: a bar that redraws itself on a terminal, or a log line every few seconds.
#ifndef CAUSEWAY_SERVER_DAEMON_LOAD_METER_H_
#define CAUSEWAY_SERVER_DAEMON_LOAD_METER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "engine/execution/executor.h"

namespace causeway {

enum class LoadDisplay { kBar, kLines, kNone };
// A bar where standard error is a terminal, otherwise lines. Logs that programs read get nothing but the outcome.
LoadDisplay LoadDisplayFor(absl::string_view log_format);

// One thread at a time.
class LoadMeter {
 public:
  explicit LoadMeter(LoadDisplay display);

  void Update(const LoadProgress& progress);
  // Call it once loading is over, successful or not: it ends the bar's line.
  void Finish();

  const LoadProgress& last() const { return last_; }

  // "  42%  1.2 GiB of 2.9 GiB  1.40 GB/s"
  static std::string Line(const LoadProgress& progress);
  static double BytesPerSecond(const LoadProgress& progress);

 private:
  const LoadDisplay display_;
  LoadProgress last_;
  double shown_ = 0;  // seconds of the progress that was last shown
  bool drawn_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_LOAD_METER_H_
