#include "server/telemetry/gpu_families.h"

#include <utility>

#include "engine/device/cuda_library.h"

namespace causeway {

using prometheus::MetricType;

GpuReader::GpuReader()
    : GpuReader([](const std::string& uuid) -> std::optional<GpuReading> {
        const absl::StatusOr<const CudaLibrary*> cuda = LoadCudaLibrary();
        return cuda.ok() ? (*cuda)->read(uuid) : std::nullopt;
      }) {}

GpuReadings GpuReader::Read(const std::vector<Device>& devices) {
  GpuReadings readings;
  std::unique_lock lock(asking_, std::defer_lock);
  for (const Device& device : devices) {
    if (device.uuid.empty()) continue;
    if (!lock && !lock.try_lock_for(kWaitMax)) return {};
    if (std::optional<GpuReading> reading = ask_(device.uuid)) readings[device.name] = *std::move(reading);
  }
  return readings;
}

void AppendGpus(const std::vector<std::pair<LabelList, GpuReading>>& gpus, std::vector<prometheus::MetricFamily>& out) {
  Family info("causeway_device_info", "Always 1; the labels say which GPU it is.", MetricType::Gauge);
  Family utilization("causeway_device_utilization_ratio", "Share of the last second with a kernel on the GPU.",
                     MetricType::Gauge);
  Family power("causeway_device_power_watts", "Power that the GPU draws.", MetricType::Gauge);
  Family power_limit("causeway_device_power_limit_watts", "Power that the driver keeps the GPU to.", MetricType::Gauge);
  Family temperature("causeway_device_temperature_celsius", "Temperature of the GPU's chip.", MetricType::Gauge);
  Family used("causeway_device_memory_used_bytes", "Memory that all processes hold.", MetricType::Gauge);
  Family throttled("causeway_device_throttled", "1 while the reason holds the GPU's clocks down.", MetricType::Gauge);
  Family ecc("causeway_device_ecc_errors_total", "Errors of the GPU's memory since the driver was loaded.",
             MetricType::Counter);
  Family xids("causeway_device_xid_errors_total", "Critical errors (Xid) of the GPU since the model was loaded.",
              MetricType::Counter);
  Family last_xid("causeway_device_last_xid", "Code of the latest of them.", MetricType::Gauge);
  const auto add = [](Family& family, const LabelList& labels, const auto& value) {
    if (value.has_value()) family.Add(labels, static_cast<double>(*value));
  };
  for (const auto& [labels, gpu] : gpus) {
    info.Add(With(labels, "uuid", gpu.uuid), 1);
    add(utilization, labels, gpu.utilization);
    add(power, labels, gpu.power_watts);
    add(power_limit, labels, gpu.power_limit_watts);
    add(temperature, labels, gpu.temperature_celsius);
    add(used, labels, gpu.used_bytes);
    for (const auto& [reason, now] : gpu.throttled) throttled.Add(With(labels, "reason", reason), now ? 1 : 0);
    add(ecc, With(labels, "kind", "corrected"), gpu.ecc_corrected);
    add(ecc, With(labels, "kind", "uncorrected"), gpu.ecc_uncorrected);
    add(xids, labels, gpu.xids);
    add(last_xid, labels, gpu.last_xid);
  }
  for (Family* family :
       {&info, &utilization, &power, &power_limit, &temperature, &used, &throttled, &ecc, &xids, &last_xid})
    family->AppendTo(out);
}

}  // namespace causeway
