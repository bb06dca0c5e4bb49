// What the driver says of GPUs, as metrics.
#ifndef CAUSEWAY_SERVER_TELEMETRY_GPU_FAMILIES_H_
#define CAUSEWAY_SERVER_TELEMETRY_GPU_FAMILIES_H_

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <prometheus/metric_family.h>

#include "engine/device/gpu_reading.h"
#include "engine/plan/device.h"
#include "server/telemetry/family.h"

namespace causeway {

using GpuReadings = std::map<std::string, GpuReading>;  // by Device::name

// Asks the driver, for one scrape at a time. It may hang when a GPU has fallen off its bus: then later scrapes wait no
// longer than kWaitMax, and go without. Any thread.
class GpuReader {
 public:
  using Ask = std::function<std::optional<GpuReading>(const std::string& uuid)>;
  static constexpr std::chrono::seconds kWaitMax{1};

  GpuReader();  // asks the CUDA library
  explicit GpuReader(Ask ask) : ask_(std::move(ask)) {}

  // Of those that are GPUs and that the driver knows.
  GpuReadings Read(const std::vector<Device>& devices);

 private:
  const Ask ask_;
  std::timed_mutex asking_;
};

// Adds what each reading has to its families, with these labels. Whose memory it is, AppendDevices says.
void AppendGpus(const std::vector<std::pair<LabelList, GpuReading>>& gpus, std::vector<prometheus::MetricFamily>& out);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_GPU_FAMILIES_H_
