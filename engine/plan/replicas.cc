#include "engine/plan/replicas.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {

absl::StatusOr<std::vector<Plan>> MakeReplicas(const ModelSpec& spec, const std::vector<Device>& devices,
                                               const PlanOptions& options, const NarrowerSpec& narrower,
                                               const RecountRank& recount) {
  const int dp = options.parallel.dp;
  const size_t each = devices.size() / dp;
  if (devices.size() % dp != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("dp=", dp, " needs a multiple of as many devices, and there are ", devices.size()));
  }
  std::vector<Plan> replicas;
  for (int replica = 0; replica < dp; ++replica) {
    std::vector<Device> own(devices.begin() + replica * each, devices.begin() + (replica + 1) * each);
    PlanOptions of_own = options;
    // Budgets are found by the device's own key, maps by that of the first replica's device in its place.
    if (dp > 1 && devices.front().kind != DeviceKind::kCpu)
      for (const Device& device : devices) of_own.max_memory.erase(device.key());
    for (size_t i = 0; dp > 1 && i < each; ++i) {
      const auto budget = options.max_memory.find(own[i].key());
      own[i].id = devices[i].id;
      if (budget != options.max_memory.end()) of_own.max_memory[own[i].key()] = budget->second;
    }
    if (const auto cpu = of_own.max_memory.find("cpu"); dp > 1 && cpu != of_own.max_memory.end() && cpu->second > 0)
      cpu->second /= dp;
    absl::StatusOr<Plan> plan = MakePlan(spec, own, of_own, narrower, recount);
    if (!plan.ok() && dp > 1)
      return absl::Status(plan.status().code(), absl::StrCat("replica ", replica, ": ", plan.status().message()));
    CAUSEWAY_RETURN_IF_ERROR(plan.status());
    for (Segment& segment : plan->segments) segment.replica = replica;
    replicas.push_back(*std::move(plan));
  }
  return replicas;
}

Plan JoinReplicas(const std::vector<Plan>& replicas) {
  Plan all = replicas.front();
  for (size_t replica = 1; replica < replicas.size(); ++replica) {
    const Plan& more = replicas[replica];
    const auto first = static_cast<int>(all.devices.size());
    all.devices.insert(all.devices.end(), more.devices.begin(), more.devices.end());
    for (Segment segment : more.segments) {
      for (int& device : segment.devices) device += first;
      all.segments.push_back(std::move(segment));
    }
    all.kv_blocks += more.kv_blocks;
    all.options.kv_cache_tokens += more.options.kv_cache_tokens;
    all.offloaded_to_cpu += more.offloaded_to_cpu;
    all.offloaded_to_disk += more.offloaded_to_disk;
    all.offload_cpu_taken += more.offload_cpu_taken;
  }
  return all;
}

}  // namespace causeway
