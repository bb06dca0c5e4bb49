// The metrics that are read when they are scraped, most of them from the engine: queue, KV cache, devices and their
// memory, transfers.
#ifndef CAUSEWAY_SERVER_TELEMETRY_ENGINE_FAMILIES_H_
#define CAUSEWAY_SERVER_TELEMETRY_ENGINE_FAMILIES_H_

#include <string>
#include <vector>

#include <prometheus/metric_family.h>

#include "engine/engine.h"
#include "server/telemetry/gpu_families.h"

namespace causeway {

// The most series that say which expert tokens went to. They are all experts of a model with 32 layers of 64, and none
// of a model with more.
inline constexpr size_t kExpertSeriesMax = 2048;

std::vector<prometheus::MetricFamily> EngineFamilies(const Engine& engine, const std::string& model,
                                                     const GpuReadings& gpus);

// What concerns the daemon itself.
prometheus::MetricFamily LogFamily();

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_ENGINE_FAMILIES_H_
