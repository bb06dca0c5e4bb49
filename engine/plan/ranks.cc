#include "engine/plan/ranks.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/architecture/shard.h"
#include "engine/base/status.h"

namespace causeway {

absl::StatusOr<Parallel> ParseParallel(absl::string_view text) {
  constexpr int kMost = 1024;
  Parallel parallel;
  std::map<absl::string_view, int*> keys = {{"dp", &parallel.dp}, {"pp", &parallel.pp}, {"tp", &parallel.tp}};
  for (const absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> entry = absl::StrSplit(item, absl::MaxSplits('=', 1));
    const auto found = keys.find(absl::StripAsciiWhitespace(entry.first));
    int number = 0;
    if (found == keys.end() || !absl::SimpleAtoi(entry.second, &number) || number < 1 || number > kMost) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected dp=N, pp=N and tp=N, each once at most, with commas between them and N from 1 to ",
                       kMost, "; got \"", absl::CEscape(item), "\""));
    }
    *found->second = number;
    keys.erase(found);
  }
  return parallel;
}

absl::StatusOr<DeviceGroups> GroupDevices(absl::Span<const Device> devices, const Budgets& budgets, Parallel parallel) {
  const int size = parallel.tp;
  DeviceGroups groups{.size = size};
  const auto count = static_cast<int>(devices.size());
  if (count % size != 0) {
    return absl::InvalidArgumentError(absl::StrCat("tensor parallelism over groups of ", size,
                                                   " needs a multiple of as many devices, and there are ", count));
  }
  if (parallel.pp != 0 && parallel.pp * size != count) {
    return absl::InvalidArgumentError(absl::StrCat("pp=", parallel.pp, " and tp=", size, " need ", parallel.pp * size,
                                                   " devices, and there are ", count));
  }
  groups.budgets.cpu_offload_bytes = budgets.cpu_offload_bytes / size;
  for (int first = 0; first < count; first += size) {
    groups.first.push_back(devices[first]);
    const auto begin = budgets.bytes.begin() + first;
    groups.budgets.bytes.push_back(*std::min_element(begin, begin + size));
    groups.budgets.is_given.push_back(budgets.is_given[first]);
    for (const Device& device : devices.subspan(first, size)) {
      if (device.kind == devices[first].kind) continue;
      return absl::InvalidArgumentError(absl::StrCat("tensor parallelism over groups of ", size, ": ",
                                                     devices[first].name, " and ", device.name,
                                                     " would share layers, and are of different kinds"));
    }
  }
  return groups;
}

absl::StatusOr<std::vector<ModelSpec>> RankSpecs(const ModelSpec& spec, int size,
                                                 const std::function<void(ModelSpec&)>& recount) {
  std::vector<ModelSpec> ranks;
  for (int rank = 0; rank < size; ++rank) {
    absl::StatusOr<ModelSpec> share = Shard(spec, {.rank = rank, .size = size});
    if (!share.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor parallelism over groups of ", size, ": ",
                                                     share.status().message(), "; the model can be cut for groups of ",
                                                     absl::StrJoin(GroupSizes(spec, size), ", ")));
    }
    if (recount && size > 1) recount(*share);
    ranks.push_back(*std::move(share));
  }
  return ranks;
}

Layout JoinRanks(std::vector<Layout> ranks, absl::Span<const Device> devices, const Budgets& budgets) {
  const auto size = static_cast<int>(ranks.size());
  if (size == 1) return std::move(ranks.front());
  Layout all = ranks.front();
  Plan& plan = all.plan;
  plan.devices.clear();
  for (size_t group = 0; group * size < devices.size(); ++group) {
    for (int rank = 0; rank < size; ++rank) plan.devices.push_back(ranks[rank].plan.devices[group]);
  }
  for (int rank = 1; rank < size; ++rank) {
    const Plan& more = ranks[rank].plan;
    plan.kv_blocks = std::min(plan.kv_blocks, more.kv_blocks);
    plan.kv_bytes_per_token += more.kv_bytes_per_token;
    plan.offloaded_to_cpu += more.offloaded_to_cpu;
    plan.offloaded_to_disk += more.offloaded_to_disk;
    plan.offload_cpu_taken += more.offload_cpu_taken;
    for (size_t i = 0; i < plan.modules.size() && i < more.modules.size(); ++i)
      plan.modules[i].bytes += more.modules[i].bytes;
    all.tiers_short += ranks[rank].tiers_short;
  }
  all.misfits.clear();
  for (int rank = 0; rank < size; ++rank) {
    const Plan& of_rank = ranks[rank].plan;
    for (const Misfit& misfit : ranks[rank].misfits)
      all.misfits.push_back({misfit.device * size + rank, misfit.short_bytes});
    for (size_t group = 0; group < of_rank.devices.size(); ++group) {
      const size_t index = group * size + rank;
      DevicePlan& device = plan.devices[index];
      device.device = devices[index];
      device.budget = budgets.bytes[index];
      if (of_rank.kv_blocks > 0) device.kv_cache = device.kv_cache / of_rank.kv_blocks * plan.kv_blocks;
      device.free = device.budget - device.weights - device.activations - device.reserve - device.kv_cache;
    }
  }
  for (Segment& segment : plan.segments) {
    const int first = segment.device() * size;
    segment.devices.clear();
    for (int rank = 0; rank < size; ++rank) segment.devices.push_back(first + rank);
  }
  return all;
}

std::vector<std::optional<DevicePlace>> PlacesOf(const Plan& plan) {
  std::vector<std::optional<DevicePlace>> places(plan.devices.size());
  std::map<int, int> stages;  // by replica
  for (const Segment& segment : plan.segments) {
    if (places[segment.device()].has_value()) continue;
    const int stage = stages[segment.replica]++;
    for (size_t rank = 0; rank < segment.devices.size(); ++rank)
      places[segment.devices[rank]] = DevicePlace{segment.replica, stage, static_cast<int>(rank)};
  }
  return places;
}

std::string MissingForGroups(DeviceKind kind, int size) {
  return size > 1 && !ComputesOnCpu(kind) ? "tensor parallelism between GPUs" : "";
}

}  // namespace causeway
