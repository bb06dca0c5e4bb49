#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/plan/offload.h"
#include "server/commands/search.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// The devices of one replica, as --devices takes them: the first of the fleet.
std::string DevicesText(const std::vector<Device>& devices) {
  if (devices.front().kind == DeviceKind::kCpu) return "cpu";
  std::vector<std::string> items;
  for (const Device& device : devices) {
    items.push_back(device.kind == DeviceKind::kCuda ? absl::StrCat(device.id)
                                                     : absl::StrCat("1x", device.memory_bytes, "B"));
  }
  return absl::StrCat(devices.front().kind == DeviceKind::kCuda ? "cuda:" : "simulated:", absl::StrJoin(items, ","));
}

// The same as --devices could name them where they are not at hand.
std::string TextNotAtHand(const std::vector<Device>& devices) {
  const Device& first = devices.front();
  const bool cpu = first.kind == DeviceKind::kCpu;
  std::vector<std::string> items;
  for (size_t i = 0; !cpu && i < devices.size();) {
    size_t end = i + 1;
    while (end < devices.size() && devices[end].model == devices[i].model) ++end;
    items.push_back(absl::StrCat(end - i, "x", devices[i].model));
    i = end;
  }
  if (const int64_t bytes = cpu ? first.memory_bytes : first.host_bytes; bytes > 0)
    items.push_back(absl::StrCat("cpu:", bytes, "B"));
  return absl::StrJoin(items, ",");
}

// Module prefixes and devices, in the model's order.
using DeviceMap = std::vector<std::pair<std::string, std::string>>;

// A stage's devices are `tp` neighbours, and go by the first one's name.
DeviceMap MapStages(const ModelSpec& spec, const std::vector<StageMemory>& stages, const std::vector<Device>& devices,
                    int tp) {
  DeviceMap map;
  for (size_t s = 0; s < stages.size(); ++s) {
    const std::string key = devices[s * tp].key();
    for (const int unit : stages[s].units.all()) {
      map.emplace_back(UnitPath(spec, unit), key);
      if (unit == Units::kEmbeddings && !spec.position_embedding_path.empty())
        map.emplace_back(spec.position_embedding_path, key);
    }
  }
  return map;
}

// Maps what the search evicted from the stages' devices. CPU memory is filled first.
void MapOffloaded(const ModelSpec& spec, const std::vector<StageMemory>& stages, int64_t cpu_bytes, DeviceMap& map) {
  const PieceTable pieces(spec);
  TierFiller tiers(cpu_bytes);
  for (const StageMemory& stage : stages) {
    const HeldPieces held = PiecesWithin(pieces.Runs(/*head_shares=*/false), stage.units);
    for (const OffloadPiece* piece : Gone(held, stage.offloaded.eviction)) {
      const auto whole =
          std::find_if(map.begin(), map.end(), [&](const auto& entry) { return entry.first == piece->module; });
      (whole != map.end() ? *whole : map.emplace_back(piece->module, "")).second = TierName(tiers.Place(*piece));
    }
  }
}

std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string ValueText(const ConfigField& field, const v1::Config& config) {
  const google::protobuf::Message& section = config.GetReflection()->GetMessage(config, field.section);
  const google::protobuf::Reflection& read = *section.GetReflection();
  switch (field.field->cpp_type()) {
    case google::protobuf::FieldDescriptor::CPPTYPE_STRING: return Quoted(read.GetString(section, field.field));
    case google::protobuf::FieldDescriptor::CPPTYPE_BOOL: return read.GetBool(section, field.field) ? "true" : "false";
    case google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE: return absl::StrCat(read.GetDouble(section, field.field));
    default: return absl::StrCat(read.GetInt64(section, field.field));
  }
}

// Writes sections with the named fields. Where there is a device map, it is written as a map.
std::string Yaml(const v1::Config& config, const std::set<std::string>& paths, const DeviceMap& device_map) {
  std::string text;
  const google::protobuf::FieldDescriptor* section = nullptr;
  for (const ConfigField& field : ConfigFields()) {
    if (!paths.contains(field.path)) continue;
    if (field.section != section) absl::StrAppend(&text, field.section->name(), ":\n");
    section = field.section;
    absl::StrAppend(&text, "  ", field.field->name(), ":");
    if (field.path != "placement.device_map" || device_map.empty()) {
      absl::StrAppend(&text, " ", ValueText(field, config), "\n");
      continue;
    }
    text += "\n";
    for (const auto& [prefix, device] : device_map)
      absl::StrAppend(&text, "    ", Quoted(prefix), ": ", Quoted(device), "\n");
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> StrategyConfig(const LoadedConfig& loaded, const EngineOptions& options,
                                           const ModelSpec& spec, const SearchReport& report, int replica, int copies) {
  const Candidate& candidate = report.search.ranked[report.search.best_served];
  const Strategy& strategy = candidate.strategy;
  const std::vector<StageMemory>& stages = candidate.replicas[replica];
  const Workload& workload = report.workload;
  std::vector<Device> devices;
  int64_t cpu_bytes = 0;  // CPU memory that the replicas may take beside their devices
  for (int copy = 0; copy < copies; ++copy) {
    for (const StageMemory& stage : candidate.replicas[replica + copy]) {
      cpu_bytes += report.fleet.devices[stage.device].cpu_bytes * strategy.tp;
      for (int rank = 0; rank < strategy.tp; ++rank) {
        Device& device = devices.emplace_back(report.fleet.devices[stage.device + rank].device);
        if (device.kind != DeviceKind::kSimulated) continue;
        device.id = static_cast<int>(devices.size()) - 1;  // each daemon counts its own devices
        device.name = absl::StrCat("simulated:", device.id);
      }
    }
  }

  v1::Config config = loaded.config;
  std::set<std::string> paths = {"model.path",
                                 "placement.devices",
                                 "placement.device_map",
                                 "batching.max_model_len",
                                 "batching.max_num_seqs",
                                 "batching.max_num_batched_tokens"};
  for (const auto& [path, origin] : loaded.origins) paths.insert(path);
  const int64_t tokens = workload.prompt_tokens + workload.output_tokens,
                running = candidate.running_each[replica];  // which the first has most of
  EngineOptions planned = options;
  PlanOptions& plan = planned.plan;
  if (plan.max_model_len == 0) plan.max_model_len = tokens;
  plan.max_num_seqs = running;
  plan.parallel = {.dp = copies, .pp = strategy.pp, .tp = strategy.tp};
  plan.kv_cache_tokens = plan.kv_cache_bytes = -1;
  paths.erase("batching.kv_cache");
  plan.device_map = "auto";
  plan.custom_map.clear();
  if (!plan.max_memory.empty() || strategy.offload) {
    plan.max_memory.clear();
    for (size_t i = 0; i < devices.size(); ++i)
      plan.max_memory[devices[i].key()] = stages[i / strategy.tp % stages.size()].budget;
    if (strategy.offload && cpu_bytes > 0) plan.max_memory["cpu"] = cpu_bytes;
  }
  DeviceMap device_map;
  if (strategy.pp > 1) {
    device_map = MapStages(spec, stages, devices, strategy.tp);
    if (strategy.offload) MapOffloaded(spec, stages, cpu_bytes, device_map);
    plan.device_map = "custom";
    plan.custom_map = {device_map.begin(), device_map.end()};
  }
  absl::StatusOr<PlacedModel> placed = PlaceModel(planned, devices);
  // Sets the blocks for all sequences, where a plan of its own would use the room for something else.
  const int64_t blocks = running * BlocksFor(tokens);
  if (placed.ok() && placed->replicas.back().kv_blocks < blocks) {
    plan.kv_cache_tokens = blocks * kBlockTokens;
    config.mutable_batching()->set_kv_cache(absl::StrCat(plan.kv_cache_tokens));
    paths.insert("batching.kv_cache");
    placed = PlaceModel(planned, devices);
  }
  if (placed.ok() && plan.max_memory.contains("cpu") && devices.front().kind != DeviceKind::kCpu) {
    // It takes no more CPU memory than it needs.
    const int64_t taken = placed->plan.offload_cpu_taken;
    plan.max_memory["cpu"] = std::min(cpu_bytes, (taken + kMiB - 1) / kMiB * kMiB);
    if (taken == 0) plan.max_memory.erase("cpu");
    placed = PlaceModel(planned, devices);
  }
  absl::Status status = placed.status();
  if (status.ok() && placed->plan.segments.size() != stages.size() * copies)
    status = absl::InternalError(absl::StrCat("it has ", placed->plan.segments.size(), " stages"));
  if (!status.ok())
    return absl::FailedPreconditionError(
        absl::StrCat(StrategyName(strategy), " cannot be planned: ", std::string(status.message())));

  config.mutable_placement()->set_devices(DevicesText(devices));
  config.mutable_placement()->set_device_map("auto");
  if (strategy.tp > 1 || copies > 1) {
    paths.insert("placement.parallel");
    config.mutable_placement()->set_parallel(absl::StrCat("dp=", copies, ",pp=", strategy.pp, ",tp=", strategy.tp));
  }
  if (!plan.max_memory.empty()) {
    paths.insert("placement.max_memory");
    config.mutable_placement()->set_max_memory(absl::StrJoin(
        plan.max_memory, ",",
        [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first, ":", entry.second, "B"); }));
  }
  config.mutable_batching()->set_max_model_len(plan.max_model_len);
  config.mutable_batching()->set_max_num_seqs(plan.max_num_seqs);
  config.mutable_batching()->set_max_num_batched_tokens(plan.max_num_batched_tokens);
  std::string text =
      absl::StrCat("# ", StrategyName(strategy), ", for ", candidate.concurrency, " requests at once of ",
                   workload.prompt_tokens, " + ", workload.output_tokens, " tokens.\n");
  if (strategy.dp > copies) {
    absl::StrAppend(
        &text, "# Replica ", replica + 1, " of ", strategy.dp, ", which runs ", running,
        " of the requests at once. Each is a daemon with devices and an address of its own; where devices\n",
        "# are like these, this file is theirs with other devices in it.\n");
  }
  if (!devices.front().at_hand) {
    absl::StrAppend(&text, "# For ", TextNotAtHand(devices), ", in this order.");
    // Such devices are counted from 0, as the first replica's are.
    if (replica == 0)
      absl::StrAppend(&text, " Where they are not at hand: causewayd plan --config FILE --devices ",
                      TextNotAtHand(devices));
    text += "\n";
  }
  return text + Yaml(config, paths, device_map);
}

}  // namespace causeway
