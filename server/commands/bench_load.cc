#include "server/commands/bench_load.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "engine/base/status.h"
#include "engine/measure/file_bandwidth.h"

namespace causeway {
namespace {

constexpr int kRounds = 4;  // even, so that each goes first equally often

// A line of /proc/self/status, in bytes; 0 where there is none.
int64_t StatusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::atoll(line.c_str() + name.size() + 1) * 1024;
  }
  return 0;
}

// Where the kernel refuses, the peak stays that of the process: it may be too high, but is never too low.
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace

absl::StatusOr<LoadTimes> MeasureLoad(const ModelSpec& spec, const Checkpoint& checkpoint, const Plan& plan,
                                      const ExecutorOptions& options, bool cold,
                                      const std::function<void(const LoadProgress&)>& progress) {
  LoadTimes times;
  times.threads = LoadThreads(options);
  for (const DevicePlan& device : plan.devices) times.weight_bytes += device.weights;
  if (!cold)
    CAUSEWAY_RETURN_IF_ERROR(MeasureFileBandwidth(checkpoint.files(), times.threads).status());  // fills the page cache
  const auto read = [&]() -> absl::Status {
    if (cold) CAUSEWAY_RETURN_IF_ERROR(DropFromPageCache(checkpoint.files()));
    CAUSEWAY_ASSIGN_OR_RETURN(const double files, MeasureFileBandwidth(checkpoint.files(), times.threads));
    times.files_bytes_per_second = std::max(times.files_bytes_per_second, files);
    return absl::OkStatus();
  };
  const auto load = [&]() -> absl::Status {
    if (cold) CAUSEWAY_RETURN_IF_ERROR(DropFromPageCache(checkpoint.files()));
    ResetPeak();
    const int64_t before = StatusBytes("VmRSS");
    LoadProgress last;
    const auto watch = [&](const LoadProgress& now) {
      last = now;
      if (progress) progress(now);
    };
    CAUSEWAY_ASSIGN_OR_RETURN(const std::unique_ptr<Executor> executor,
                              MakeExecutor(spec, checkpoint, plan, options, watch));
    if (times.seconds == 0 || last.seconds < times.seconds) times.seconds = last.seconds;
    times.bytes = last.bytes_done;
    if (const int64_t peak = StatusBytes("VmHWM"); peak - before > times.peak_bytes - times.before_bytes) {
      times.peak_bytes = peak;
      times.before_bytes = before;
    }
    return absl::OkStatus();
  };
  for (int round = 0; round < kRounds; ++round) {
    CAUSEWAY_RETURN_IF_ERROR(round % 2 == 0 ? read() : load());
    CAUSEWAY_RETURN_IF_ERROR(round % 2 == 0 ? load() : read());
  }
  return times;
}

}  // namespace causeway
