#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "server/commands/search.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// As --devices has them: those of one replica, the first of the fleet.
std::string DevicesText(const std::vector<Device>& devices) {
  if (devices.front().kind == DeviceKind::kCpu) return "cpu";
  std::vector<std::string> items;
  for (const Device& device : devices) {
    items.push_back(device.kind == DeviceKind::kCuda ? absl::StrCat(device.id) : absl::StrCat("1x", device.memory_bytes, "B"));
  }
  return absl::StrCat(devices.front().kind == DeviceKind::kCuda ? "cuda:" : "simulated:", absl::StrJoin(items, ","));
}

// The same as --devices could name them where they are not at hand.
std::string CatalogueText(const std::vector<Device>& devices) {
  std::string text;
  for (size_t i = 0; i < devices.size();) {
    size_t end = i + 1;
    while (end < devices.size() && devices[end].model == devices[i].model) ++end;
    absl::StrAppend(&text, i == 0 ? "" : ",", end - i, "x", devices[i].model);
    i = end;
  }
  return text;
}

// Module prefixes and devices, in the model's order.
using DeviceMap = std::vector<std::pair<std::string, std::string>>;

DeviceMap MapStages(const ModelSpec& spec, const std::vector<StageMemory>& stages, const Fleet& fleet) {
  DeviceMap map;
  const int layers = static_cast<int>(spec.layers.size());
  for (const StageMemory& stage : stages) {
    for (int unit = stage.first_unit; unit <= stage.last_unit; ++unit) {
      const std::string key = fleet.devices[stage.device].device.key();
      map.emplace_back(unit == 0 ? spec.embedding_path : unit <= layers ? spec.layers[unit - 1].path : unit == layers + 1 ? spec.final_norm_path : spec.head_path, key);
      if (unit == 0 && !spec.position_embedding_path.empty()) map.emplace_back(spec.position_embedding_path, key);
    }
  }
  return map;
}

std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

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

// Sections with the fields named; the device map, where there is one, as a map.
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
    for (const auto& [prefix, device] : device_map) absl::StrAppend(&text, "    ", Quoted(prefix), ": ", Quoted(device), "\n");
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> StrategyConfig(const LoadedConfig& loaded, const EngineOptions& options, const SearchReport& report, const Candidate& candidate) {
  const Strategy& strategy = candidate.strategy;
  const std::vector<StageMemory>& stages = candidate.replicas.front();
  const Workload& workload = report.workload;
  std::vector<Device> devices;
  for (const StageMemory& stage : stages) devices.push_back(report.fleet.devices[stage.device].device);
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel model, ReadModel(options, Purpose::kPlanning));

  v1::Config config = loaded.config;
  std::set<std::string> paths = {"model.path", "placement.devices", "placement.device_map", "batching.max_model_len", "batching.max_num_seqs", "batching.max_num_batched_tokens"};
  for (const auto& [path, origin] : loaded.origins) paths.insert(path);
  const int64_t tokens = workload.prompt_tokens + workload.output_tokens;
  const int64_t running = std::min(candidate.running_each.front(), static_cast<int64_t>(FindFieldByPath("batching.max_num_seqs")->rules->max()));
  EngineOptions planned = options;
  PlanOptions& plan = planned.plan;
  if (plan.max_model_len == 0) plan.max_model_len = tokens;
  plan.max_num_seqs = running;
  plan.max_num_batched_tokens = std::max(plan.max_num_batched_tokens, running);
  plan.kv_cache_tokens = plan.kv_cache_bytes = -1;
  paths.erase("batching.kv_cache");
  plan.device_map = "auto";
  plan.custom_map.clear();
  DeviceMap device_map;
  if (strategy.pp > 1 && !strategy.offload) {
    device_map = MapStages(model.spec, stages, report.fleet);
    plan.device_map = "custom";
    plan.custom_map = {device_map.begin(), device_map.end()};
  }
  if (!plan.max_memory.empty() || strategy.offload) {
    plan.max_memory.clear();
    for (const StageMemory& stage : stages) plan.max_memory[report.fleet.devices[stage.device].device.key()] = stage.budget;
    if (strategy.offload) plan.max_memory["cpu"] = int64_t{1} << 60;  // for now: what it takes is known when all is placed
  }
  absl::StatusOr<PlacedModel> placed = PlaceModel(planned, devices);
  // Blocks for all, where a plan of its own would leave more to others.
  const int64_t blocks = running * ((tokens + kBlockTokens - 1) / kBlockTokens);
  if (placed.ok() && placed->plan.kv_blocks < blocks) {
    plan.kv_cache_tokens = blocks * kBlockTokens;
    config.mutable_batching()->set_kv_cache(absl::StrCat(plan.kv_cache_tokens));
    paths.insert("batching.kv_cache");
    placed = PlaceModel(planned, devices);
  }
  if (placed.ok() && strategy.offload) {
    plan.max_memory["cpu"] = (placed->plan.offloaded_to_cpu + kMiB - 1) / kMiB * kMiB;
    placed = PlaceModel(planned, devices);
  }
  if (!placed.ok()) return absl::FailedPreconditionError(absl::StrCat(StrategyName(strategy), " cannot be planned: ", std::string(placed.status().message())));

  config.mutable_placement()->set_devices(DevicesText(devices));
  config.mutable_placement()->set_device_map("auto");
  if (!plan.max_memory.empty()) {
    paths.insert("placement.max_memory");
    config.mutable_placement()->set_max_memory(absl::StrJoin(plan.max_memory, ",", [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first, ":", entry.second, "B"); }));
  }
  config.mutable_batching()->set_max_model_len(plan.max_model_len);
  config.mutable_batching()->set_max_num_seqs(plan.max_num_seqs);
  config.mutable_batching()->set_max_num_batched_tokens(plan.max_num_batched_tokens);
  std::string text = absl::StrCat("# ", StrategyName(strategy), ", for ", candidate.concurrency, " requests at once of ", workload.prompt_tokens, " + ", workload.output_tokens, " tokens.\n");
  if (strategy.dp > 1) {
    absl::StrAppend(&text, "# One of ", strategy.dp, " daemons: the others have the next ", devices.size() == 1 ? "device" : absl::StrCat(devices.size(), " devices"),
                    " each, and addresses of their own. This one is for ", running, " of the requests.\n");
  }
  if (!devices.front().at_hand) {
    absl::StrAppend(&text, "# For ", CatalogueText(devices), ", in this order. Where they are not at hand: causewayd plan --config FILE --devices ", CatalogueText(devices), "\n");
  }
  return text + Yaml(config, paths, device_map);
}

}  // namespace causeway
