#include "server/commands/bench_load.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "engine/base/status.h"
#include "engine/execution/file_bandwidth.h"

namespace causeway {
namespace {

// A line of /proc/self/status, in bytes; 0 where there is none.
int64_t StatusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  std::string key, unit;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::atoll(line.c_str() + name.size() + 1) * 1024;
  }
  return 0;
}

// Where the kernel refuses, the peak stays that of the process: too high, and never too low.
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace

absl::StatusOr<LoadTimes> MeasureLoad(const ModelSpec& spec, const Checkpoint& checkpoint, const Plan& plan, const ExecutorOptions& options,
                                      bool cold, const std::function<void(const LoadProgress&)>& progress) {
  LoadTimes times;
  times.threads = LoadThreads(options);
  for (const DevicePlan& device : plan.devices) times.weight_bytes += device.weights;
  const auto files = [&]() -> absl::Status {
    if (cold) CAUSEWAY_RETURN_IF_ERROR(DropFromPageCache(checkpoint.files()));
    CAUSEWAY_ASSIGN_OR_RETURN(const double measured, MeasureFileBandwidth(checkpoint.files(), times.threads));
    times.files_bytes_per_second = std::max(times.files_bytes_per_second, measured);
    return absl::OkStatus();
  };
  CAUSEWAY_RETURN_IF_ERROR(files());  // also brings the files into the page cache
  if (!cold) CAUSEWAY_RETURN_IF_ERROR(files());
  if (cold) CAUSEWAY_RETURN_IF_ERROR(DropFromPageCache(checkpoint.files()));
  ResetPeak();
  times.before_bytes = StatusBytes("VmRSS");
  {
    const auto watch = [&](const LoadProgress& now) {
      times.bytes = now.bytes_done;
      times.seconds = now.seconds;
      if (progress) progress(now);
    };
    CAUSEWAY_RETURN_IF_ERROR(MakeExecutor(spec, checkpoint, plan, options, watch).status());
    times.peak_bytes = StatusBytes("VmHWM");
  }
  CAUSEWAY_RETURN_IF_ERROR(files());
  return times;
}

}  // namespace causeway
