// What the driver's monitoring library says of a GPU in use. No torch here.
#ifndef CAUSEWAY_ENGINE_DEVICE_GPU_READING_H_
#define CAUSEWAY_ENGINE_DEVICE_GPU_READING_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace causeway {

// What a GPU, its driver or the process's rights do not tell is missing, and never zero.
struct GpuReading {
  std::string uuid;                                       // as nvidia-smi has it: "GPU-8f3c..."
  std::optional<double> utilization;                      // 0 to 1: of the last second or less, with a kernel on it
  std::optional<double> power_watts, power_limit_watts;   // drawn; the limit that the driver keeps to
  std::optional<double> temperature_celsius;              // of the chip
  std::optional<int64_t> used_bytes;                      // held by all processes
  std::optional<int64_t> own_bytes;                       // of these by this one, with its context
  std::map<std::string, bool> throttled;                  // by reason, whether it holds the clocks down now
  std::optional<int64_t> ecc_corrected, ecc_uncorrected;  // errors of memory since the driver was loaded
  std::optional<int64_t> xids;                            // critical errors since the process has watched for them
  std::optional<int64_t> last_xid;                        // the code of the latest of them
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_GPU_READING_H_
