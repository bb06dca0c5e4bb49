// The plan as a table for terminals and as JSON.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/limits.h"
#include "engine/checkpoint/json.h"
#include "engine/plan/capacity.h"
#include "engine/plan/plan.h"
#include "engine/plan/unit_table.h"

namespace causeway {
namespace {

constexpr int kBarWidth = 32;

struct Owner {
  const char* name;
  const char* glyph;
  const char* color;
  int64_t DevicePlan::* bytes;
};
constexpr Owner kOwners[] = {
    {"weights", "█", "\033[34m", &DevicePlan::weights},
    {"KV cache", "▓", "\033[32m", &DevicePlan::kv_cache},
    {"activations", "▒", "\033[33m", &DevicePlan::activations},
    {"reserve", "░", "\033[35m", &DevicePlan::reserve},
    {"free", "·", "\033[2m", &DevicePlan::free},
};
constexpr char kPlain[] = "\033[0m";
constexpr char kBold[] = "\033[1m";

std::string Colored(const std::string& text, const char* color, bool on) {
  return on ? absl::StrCat(color, text, kPlain) : text;
}

// Cells of the bar that each owner gets: to the nearest, but at least one for whoever holds anything, exactly kBarWidth
// in all.
std::vector<int> BarCells(const DevicePlan& device) {
  std::vector<int> cells;
  int sum = 0;
  for (const Owner& owner : kOwners) {
    const int64_t bytes = std::max<int64_t>(0, device.*owner.bytes);
    const double exact =
        device.budget > 0 ? static_cast<double>(bytes) / static_cast<double>(device.budget) * kBarWidth : 0;
    cells.push_back(std::max(bytes > 0 ? 1 : 0, static_cast<int>(exact + 0.5)));
    sum += cells.back();
  }
  *std::max_element(cells.begin(), cells.end()) += kBarWidth - sum;
  return cells;
}

std::string Bar(const DevicePlan& device, bool color) {
  const std::vector<int> cells = BarCells(device);
  std::string bar;
  for (size_t i = 0; i < cells.size(); ++i) {
    std::string run;
    for (int n = 0; n < cells[i]; ++n) run += kOwners[i].glyph;
    if (!run.empty()) bar += Colored(run, kOwners[i].color, color);
  }
  return bar;
}

// Header, then a row for each device.
std::vector<std::vector<std::string>> Rows(const Plan& plan) {
  std::vector<std::vector<std::string>> rows = {{"device", "holds"}};
  for (const Owner& owner : kOwners) rows[0].push_back(owner.name);
  rows[0].push_back("budget");
  for (const DevicePlan& device : plan.devices) {
    std::vector<std::string> row = {device.device.name,
                                    device.units.empty() ? "-" : UnitNames(UnitsOf(plan), device.units)};
    for (const Owner& owner : kOwners) row.push_back(device.*owner.bytes == 0 ? "-" : FormatBytes(device.*owner.bytes));
    row.push_back(FormatBytes(device.budget));
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string Title(const Plan& plan) {
  return absl::StrCat(plan.model, ", ", DTypeName(plan.options.dtype), ", device_map ", plan.options.device_map);
}

// "22 mlp, 3 self_attn, embed_tokens": modules by their own names.
std::string ModuleCounts(const std::vector<OffloadedModule>& modules, Tier tier) {
  std::vector<std::pair<std::string, int>> counts;
  for (const OffloadedModule& module : modules) {
    if (module.tier != tier) continue;
    std::vector<std::string> path = absl::StrSplit(module.name, '.');
    while (path.size() > 1 && path.back().find_first_not_of("0123456789") == std::string::npos) path.pop_back();
    const auto same =
        std::find_if(counts.begin(), counts.end(), [&](const auto& count) { return count.first == path.back(); });
    same == counts.end() ? void(counts.emplace_back(path.back(), 1)) : void(++same->second);
  }
  return absl::StrJoin(counts, ", ", [](std::string* out, const auto& count) {
    absl::StrAppend(out, count.second > 1 ? absl::StrCat(count.second, " ") : "", count.first);
  });
}

std::vector<std::string> OffloadRemarks(const Plan& plan) {
  std::vector<std::string> remarks;
  for (const DevicePlan& device : plan.devices) {
    std::vector<std::string> places;
    for (const Tier tier : kTiers) {
      int64_t bytes = 0;
      for (const OffloadedModule& module : device.offloaded) bytes += module.tier == tier ? module.bytes : 0;
      if (bytes == 0) continue;
      places.push_back(absl::StrCat(FormatBytes(bytes), tier == Tier::kCpu ? " in CPU memory (" : " on disk (",
                                    ModuleCounts(device.offloaded, tier), ")"));
    }
    if (places.empty()) continue;
    remarks.push_back(absl::StrCat(device.device.name, " computes from ", absl::StrJoin(places, " and "),
                                   device.staging == 0 ? "" : ", through a buffer of ",
                                   device.staging == 0 ? "" : FormatBytes(device.staging), "."));
  }
  return remarks;
}

// What stands below the rows: sentences.
std::vector<std::string> Remarks(const Plan& plan) {
  std::vector<std::string> remarks;
  std::map<int, std::vector<std::string>> paths;  // by replica
  for (const Segment& segment : plan.segments) {
    const std::string devices = absl::StrJoin(segment.devices, " + ", [&plan](std::string* out, int device) {
      absl::StrAppend(out, plan.devices[device].device.name);
    });
    paths[segment.replica].push_back(absl::StrCat(devices, " (", UnitNames(UnitsOf(plan), segment.units.all()), ")"));
  }
  const int tp = plan.options.parallel.tp;
  if (tp > 1) remarks.push_back(absl::StrCat("Tensor parallel: ", tp, " devices share each layer."));
  if (paths.size() > 1)
    remarks.push_back(absl::StrCat("Data parallel: ", paths.size(), " replicas, each with a KV cache of its own."));
  for (const auto& [replica, path] : paths) {
    if (paths.size() == 1 && path.size() == 1 && tp == 1) continue;
    remarks.push_back(absl::StrCat(paths.size() > 1 ? absl::StrCat("Replica ", replica, ": a") : "A",
                                   " step goes through ", absl::StrJoin(path, " → "), "."));
  }
  for (std::string& remark : OffloadRemarks(plan)) remarks.push_back(std::move(remark));
  if (plan.tied_head_copied)
    remarks.push_back("The head shares the embedding's weight and has a copy of it on its own device.");
  if (!plan.quantization.empty()) {
    remarks.push_back(absl::StrCat("Weights: ", plan.quantization, "; in ", DTypeName(plan.options.dtype), ": ",
                                   absl::StrJoin(plan.unquantized, ", "), "."));
  }
  for (std::string& remark : CapacityRemarks(plan)) remarks.push_back(std::move(remark));
  return remarks;
}

}  // namespace

std::string PlanTable(const Plan& plan, bool color) {
  const std::vector<std::vector<std::string>> rows = Rows(plan);  // behind the last column comes the bar
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const std::vector<std::string>& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }

  std::string text = Colored(Title(plan), kBold, color) + "\n\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const std::string space(widths[c] - rows[r][c].size(), ' ');
      absl::StrAppend(&line, c == 0 ? "" : "  ", c < 2 ? rows[r][c] + space : space + rows[r][c]);
    }
    if (r == 0) {
      text += Colored(line, kBold, color) + "\n";
    } else {
      absl::StrAppend(&text, line, "  ", plan.devices[r - 1].budget > 0 ? Bar(plan.devices[r - 1], color) : "", "\n");
    }
  }
  std::vector<std::string> legend;
  for (const Owner& owner : kOwners)
    legend.push_back(absl::StrCat(Colored(owner.glyph, owner.color, color), " ", owner.name));
  return absl::StrCat(text, "\n", absl::StrJoin(legend, "   "), "\n", absl::StrJoin(Remarks(plan), "\n"), "\n");
}

std::string PlanMarkdown(const Plan& plan) {
  std::string text = absl::StrCat("**", Title(plan), "**\n\n");
  const std::vector<std::vector<std::string>> rows = Rows(plan);
  for (size_t r = 0; r < rows.size(); ++r) {
    absl::StrAppend(&text, "| ", absl::StrJoin(rows[r], " | "), " |\n");
    if (r == 0)
      absl::StrAppend(&text, "| --- | --- |",
                      absl::StrJoin(std::vector<std::string>(rows[r].size() - 2, " ---: |"), ""), "\n");
  }
  for (const std::string& remark : Remarks(plan)) absl::StrAppend(&text, "\n", remark, "\n");
  return text;
}

std::string PlanJson(const Plan& plan) {
  using OrderedJson = nlohmann::ordered_json;
  OrderedJson json;
  json["model"] = plan.model;
  json["policy"] = plan.options.device_map;
  json["dtype"] = std::string(DTypeName(plan.options.dtype));
  json["quantization"] = plan.quantization;
  json["unquantized"] = plan.unquantized;
  // Devices as the field's maps have them: numbers, or "cpu".
  auto device_value = [](const std::string& key) -> OrderedJson {
    if (!key.empty() && key.find_first_not_of("0123456789") == std::string::npos) return std::stoll(key);
    return key;
  };
  json["device_map"] = OrderedJson::object();
  for (const auto& [prefix, device] : plan.device_map) json["device_map"][prefix] = device_value(device);

  json["devices"] = OrderedJson::array();
  for (const DevicePlan& device : plan.devices) {
    json["devices"].push_back({{"id", device_value(device.device.key())},
                               {"name", device.device.name},
                               {"model", device.device.model},
                               {"budget", device.budget},
                               {"weights", device.weights},
                               {"kv_cache", device.kv_cache},
                               {"activations", device.activations},
                               {"reserve", device.reserve},
                               {"free", device.free},
                               {"holds", UnitNames(UnitsOf(plan), device.units)},
                               {"staging", device.staging},
                               {"offloaded", OrderedJson::array()}});
    for (const OffloadedModule& module : device.offloaded) {
      json["devices"].back()["offloaded"].push_back(
          {{"name", module.name}, {"bytes", module.bytes}, {"tier", TierName(module.tier)}});
    }
  }
  json["offloaded"] = {{"cpu", plan.offloaded_to_cpu}, {"disk", plan.offloaded_to_disk}};
  json["modules"] = OrderedJson::array();
  for (const ModulePlacement& module : plan.modules) {
    json["modules"].push_back({{"name", module.name},
                               {"bytes", module.bytes},
                               {"device", device_value(module.device)},
                               {"reason", module.reason}});
  }
  json["segments"] = OrderedJson::array();
  for (const Segment& segment : plan.segments) {
    OrderedJson devices = OrderedJson::array();
    for (const int device : segment.devices) devices.push_back(plan.devices[device].device.name);
    json["segments"].push_back({{"device", plan.devices[segment.device()].device.name},
                                {"devices", std::move(devices)},
                                {"replica", segment.replica},
                                {"first_unit", segment.units.first},
                                {"last_unit", segment.units.last}});
  }
  json["kv_cache"] = {{"tokens", plan.kv_blocks * kBlockTokens},
                      {"blocks", plan.kv_blocks},
                      {"dtype", std::string(DTypeName(KvDType(plan.options)))},
                      {"bytes_per_token", plan.kv_bytes_per_token},
                      {"max_model_len", plan.options.max_model_len},
                      {"sequences", OrderedJson::array()}};
  if (plan.kv_blocks > 0) {
    const Capacity capacity = CapacityOf(plan);
    for (const auto& [tokens, count] : capacity.sequences)
      json["kv_cache"]["sequences"].push_back({{"tokens", tokens}, {"count", count}});
    if (capacity.seqs_worth > 0)
      json["worth_setting"] = {{"max_num_seqs", capacity.seqs_worth}, {"reason", capacity.reason}};
  }
  json["tied_head_copied"] = plan.tied_head_copied;
  return json.dump(2);
}

}  // namespace causeway
