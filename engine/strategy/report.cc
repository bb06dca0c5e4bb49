#include "engine/strategy/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/plan/unit_table.h"
#include "nlohmann/json.hpp"

namespace causeway {
namespace {

constexpr size_t kRowsShown = 10, kDroppedShown = 6;

using Row = std::vector<std::string>;
using OrderedJson = nlohmann::ordered_json;

std::string Milliseconds(double seconds) {
  return absl::StrFormat(seconds < 0.01 ? "%.2f" : seconds < 1 ? "%.1f" : "%.0f", 1e3 * seconds);
}
std::string Rate(double value) { return absl::StrFormat(value < 10 ? "%.2f" : value < 1000 ? "%.1f" : "%.0f", value); }
std::string Bytes(int64_t bytes) { return bytes == 0 ? "-" : FormatBytes(bytes); }

const Row kHeader = {"rank",    "strategy", "at once",  "tokens/s",    "per device", "per user", "TTFT ms",
                     "TPOT ms", "weights",  "KV cache", "activations", "reserve",    "free",     "notes"};

Row CandidateRow(const SearchReport& report, size_t index) {
  const Candidate& c = report.search.ranked[index];
  std::vector<std::string> notes;
  if (c.pareto) notes.push_back("pareto");
  if (c.not_served.empty()) notes.push_back("servable");
  if (c.offloaded_bytes > c.on_disk_bytes)
    notes.push_back(absl::StrCat(FormatBytes(c.offloaded_bytes - c.on_disk_bytes), " in CPU memory"));
  if (c.on_disk_bytes > 0) notes.push_back(absl::StrCat(FormatBytes(c.on_disk_bytes), " on disk"));
  return {absl::StrCat(index + 1),
          StrategyName(c.strategy),
          c.running == c.concurrency ? absl::StrCat(c.running) : absl::StrCat(c.running, " of ", c.concurrency),
          Rate(c.tokens_per_second),
          Rate(c.tokens_per_second_device),
          Rate(c.tokens_per_second_user),
          Milliseconds(c.ttft_seconds),
          Milliseconds(c.tpot_seconds),
          Bytes(c.fullest.weights),
          Bytes(c.fullest.kv_cache),
          Bytes(c.fullest.activations),
          Bytes(c.fullest.reserve),
          Bytes(c.fullest.free()),
          absl::StrJoin(notes, ", ")};
}

std::vector<Row> Rows(const SearchReport& report) {
  std::vector<Row> rows = {kHeader};
  const Search& search = report.search;
  for (size_t i = 0; i < std::min(kRowsShown, search.ranked.size()); ++i) rows.push_back(CandidateRow(report, i));
  if (search.best_served >= static_cast<int>(kRowsShown)) rows.push_back(CandidateRow(report, search.best_served));
  return rows;
}

std::string FleetText(const Fleet& fleet) {
  std::vector<std::pair<std::string, int>> runs;
  for (const FleetDevice& device : fleet.devices) {
    const std::string name =
        device.device.kind == DeviceKind::kCuda
            ? device.device.model
            : absl::StrCat(device.device.name.substr(0, device.device.name.find(':')), " ", FormatBytes(device.budget));
    if (runs.empty() || runs.back().first != name) runs.push_back({name, 0});
    ++runs.back().second;
  }
  std::string text = absl::StrJoin(
      runs, " + ", [](std::string* out, const auto& run) { absl::StrAppend(out, run.second, " x ", run.first); });
  if (fleet.nodes > 1)
    absl::StrAppend(&text, " on ", fleet.nodes, " nodes, ",
                    absl::StrFormat("%g Gb/s", fleet.network.bytes_per_second * 8 / 1e9), " between them");
  return text;
}

std::string Title(const SearchReport& report) {
  const Workload& w = report.workload;
  std::string text = absl::StrCat(report.model, " on ", FleetText(report.fleet), "; requests of ", w.prompt_tokens,
                                  " + ", w.output_tokens, " tokens, ", absl::StrJoin(w.concurrency, ", "), " at once");
  if (std::isfinite(w.ttft_seconds_max))
    absl::StrAppend(&text, ", TTFT up to ", Milliseconds(w.ttft_seconds_max), " ms");
  if (std::isfinite(w.tpot_seconds_max))
    absl::StrAppend(&text, ", TPOT up to ", Milliseconds(w.tpot_seconds_max), " ms");
  return text;
}

std::string Where(const SearchReport& report, const Candidate& c) {
  if (c.strategy.pp == 1) return "";
  const Units units = Units::OfCount(c.replicas.front().back().units.last + 1);
  std::vector<std::string> stages;
  for (const StageMemory& stage : c.replicas.front()) {
    stages.push_back(
        absl::StrCat(report.fleet.devices[stage.device].device.name, " (", UnitNames(units, stage.units.all()), ")"));
  }
  const auto as_first = [&c](const std::vector<StageMemory>& replica) {
    return std::equal(replica.begin(), replica.end(), c.replicas.front().begin(),
                      [](const StageMemory& a, const StageMemory& b) { return a.units.last == b.units.last; });
  };
  const bool alike = std::all_of(c.replicas.begin(), c.replicas.end(), as_first);
  return absl::StrCat("Stages: ", absl::StrJoin(stages, " → "),
                      c.strategy.dp == 1 ? "."
                      : alike            ? ", and so in each replica."
                                         : "; other replicas are cut otherwise.");
}

// Reasons with the strategies that they hold for, in the order found.
std::vector<std::pair<std::string, std::vector<std::string>>> DroppedByReason(const Search& search) {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;
  for (const Candidate& c : search.dropped) {
    const std::string name = absl::StrCat(StrategyName(c.strategy),
                                          search.ranked.empty() || c.fits ? absl::StrCat(" at ", c.concurrency) : "");
    auto found =
        std::find_if(reasons.begin(), reasons.end(), [&c](const auto& reason) { return reason.first == c.dropped; });
    if (found == reasons.end()) found = reasons.insert(reasons.end(), {c.dropped, {}});
    if (std::find(found->second.begin(), found->second.end(), name) == found->second.end())
      found->second.push_back(name);
  }
  return reasons;
}

std::vector<std::string> Remarks(const SearchReport& report) {
  const Search& search = report.search;
  std::vector<std::string> remarks;
  const bool assumed = std::any_of(report.fleet.devices.begin(), report.fleet.devices.end(),
                                   [](const FleetDevice& d) { return !d.measured; });
  if (assumed) {
    remarks.push_back(
        absl::StrFormat("Speeds are assumed: %.0f%% of the makers' memory bandwidth, %.0f%% of their FLOP/s, %.0f%% of "
                        "links; measure with --calibrate.",
                        100 * kMemoryShare, 100 * kFlopsShare, 100 * kLinkShare));
  }
  const bool on_disk =
      std::any_of(search.ranked.begin(), search.ranked.end(), [](const Candidate& c) { return c.on_disk_bytes > 0; });
  if (on_disk && !report.fleet.disk_measured) {
    remarks.push_back(absl::StrFormat("The disk of each node is taken to read %.1f GB/s.",
                                      kDiskShare * CatalogueDiskBytesPerSecond() / 1e9));
  }
  if (search.ranked.empty()) {
    remarks.push_back("No strategy fits and keeps the limits.");
  } else {
    const Candidate& best = search.ranked.front();
    const std::string best_name = StrategyName(best.strategy);
    if (const std::string where = Where(report, best); !where.empty()) remarks.push_back(where);
    if (best.running < best.concurrency) {
      remarks.push_back(absl::StrCat(best_name, " has room for ", best.running, " of ", best.concurrency,
                                     " requests at once; the others wait, which TTFT counts."));
    }
    if (search.best_served < 0) {
      remarks.push_back("None of these can be served by this version of Causeway.");
    } else if (search.best_served > 0) {
      const Candidate& served = search.ranked[search.best_served];
      remarks.push_back(
          absl::StrFormat("This version of Causeway does not serve %s: it lacks %s. The best that it serves is rank "
                          "%d, %s, with %.0f%% of its tokens per second.",
                          best_name, best.not_served, search.best_served + 1, StrategyName(served.strategy),
                          100 * served.tokens_per_second / best.tokens_per_second));
    }
  }
  if (search.ranked.size() > kRowsShown)
    remarks.push_back(
        absl::StrCat(search.ranked.size() - kRowsShown, " more that fit are not shown; --format csv or json has all."));
  const auto reasons = DroppedByReason(search);
  for (size_t i = 0; i < std::min(kDroppedShown, reasons.size()); ++i) {
    std::vector<std::string> names = reasons[i].second;
    if (names.size() > 4) names = {names[0], names[1], names[2], absl::StrCat(names.size() - 3, " more")};
    remarks.push_back(absl::StrCat("Dropped: ", absl::StrJoin(names, "; "), ": ", reasons[i].first, "."));
  }
  if (reasons.size() > kDroppedShown)
    remarks.push_back(
        absl::StrCat("Dropped for ", reasons.size() - kDroppedShown, " more reasons, which --format csv or json has."));
  return remarks;
}

OrderedJson MemoryJson(const Fleet& fleet, const StageMemory& stage) {
  return {{"device", fleet.devices[stage.device].device.name},
          {"first_unit", stage.units.first},
          {"last_unit", stage.units.last},
          {"budget", stage.budget},
          {"weights", stage.weights},
          {"kv_cache", stage.kv_cache},
          {"activations", stage.activations},
          {"reserve", stage.reserve},
          {"free", stage.free()},
          {"offloaded", stage.offloaded.bytes},
          {"on_disk", stage.offloaded.on_disk}};
}

OrderedJson CandidateJson(const SearchReport& report, const Candidate& c) {
  const Strategy& s = c.strategy;
  OrderedJson json = {{"strategy", StrategyName(s)},
                      {"dp", s.dp},
                      {"pp", s.pp},
                      {"tp", s.tp},
                      {"micro_batches", s.micro_batches},
                      {"offload", s.offload},
                      {"concurrency", c.concurrency}};
  if (!c.dropped.empty()) json["dropped"] = c.dropped;
  if (!c.fits) return json;
  json.update({{"running", c.running},
               {"tokens_per_second", c.tokens_per_second},
               {"tokens_per_second_device", c.tokens_per_second_device},
               {"tokens_per_second_user", c.tokens_per_second_user},
               {"ttft_seconds", c.ttft_seconds},
               {"tpot_seconds", c.tpot_seconds},
               {"bubble", c.bubble},
               {"pareto", c.pareto},
               {"servable", c.not_served.empty()},
               {"not_served", c.not_served},
               {"offloaded_bytes", c.offloaded_bytes},
               {"on_disk_bytes", c.on_disk_bytes}});
  json["fullest"] = MemoryJson(report.fleet, c.fullest);
  json["replicas"] = OrderedJson::array();
  for (const std::vector<StageMemory>& replica : c.replicas) {
    OrderedJson stages = OrderedJson::array();
    for (const StageMemory& stage : replica) stages.push_back(MemoryJson(report.fleet, stage));
    json["replicas"].push_back(std::move(stages));
  }
  return json;
}

}  // namespace

std::string SearchTable(const SearchReport& report) {
  std::string text = Title(report) + "\n\n";
  if (!report.search.ranked.empty()) {
    const std::vector<Row> rows = Rows(report);
    std::vector<size_t> widths(kHeader.size(), 0);
    for (const Row& row : rows) {
      for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
    }
    for (const Row& row : rows) {
      std::string line;
      for (size_t c = 0; c < row.size(); ++c) {
        const std::string space(widths[c] - row[c].size(), ' ');
        const bool to_left = c == 1 || c + 1 == row.size();
        absl::StrAppend(&line, c == 0 ? "" : "  ", to_left ? row[c] + space : space + row[c]);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      absl::StrAppend(&text, line, "\n");
    }
    text += "\nMemory is that of the fullest device.\n";
  }
  return absl::StrCat(text, absl::StrJoin(Remarks(report), "\n"), "\n");
}

std::string SearchMarkdown(const SearchReport& report) {
  std::string text = absl::StrCat("**", Title(report), "**\n\n");
  if (!report.search.ranked.empty()) {
    const std::vector<Row> rows = Rows(report);
    for (size_t r = 0; r < rows.size(); ++r) {
      absl::StrAppend(&text, "| ", absl::StrJoin(rows[r], " | "), " |\n");
      if (r == 0)
        absl::StrAppend(&text, "| ---: | --- |", absl::StrJoin(Row(kHeader.size() - 3, " ---: |"), ""), " --- |\n");
    }
    text += "\nMemory is that of the fullest device.\n";
  }
  for (const std::string& remark : Remarks(report)) absl::StrAppend(&text, "\n", remark, "\n");
  return text;
}

std::string SearchJson(const SearchReport& report) {
  const Workload& w = report.workload;
  OrderedJson json = {{"model", report.model},
                      {"fleet", FleetText(report.fleet)},
                      {"prompt_tokens", w.prompt_tokens},
                      {"output_tokens", w.output_tokens},
                      {"concurrency", w.concurrency}};
  json["ttft_seconds_max"] = std::isfinite(w.ttft_seconds_max) ? OrderedJson(w.ttft_seconds_max) : OrderedJson();
  json["tpot_seconds_max"] = std::isfinite(w.tpot_seconds_max) ? OrderedJson(w.tpot_seconds_max) : OrderedJson();
  json["measured"] = std::all_of(report.fleet.devices.begin(), report.fleet.devices.end(),
                                 [](const FleetDevice& d) { return d.measured; });
  json["ranked"] = OrderedJson::array();
  for (const Candidate& c : report.search.ranked) json["ranked"].push_back(CandidateJson(report, c));
  json["dropped"] = OrderedJson::array();
  for (const Candidate& c : report.search.dropped) json["dropped"].push_back(CandidateJson(report, c));
  json["best_served"] = report.search.best_served < 0 ? OrderedJson() : OrderedJson(report.search.best_served);
  return json.dump(2) + "\n";
}

std::string SearchCsv(const SearchReport& report) {
  std::string text =
      "rank,dp,pp,tp,micro_batches,offload,concurrency,running,tokens_per_second,tokens_per_second_device,tokens_per_"
      "second_user,ttft_ms,tpot_ms,bubble,"
      "weights,kv_cache,activations,reserve,free,offloaded,on_disk,pareto,servable,dropped\n";
  const auto add = [&text](const Candidate& c, const std::string& rank) {
    const Strategy& s = c.strategy;
    absl::StrAppend(
        &text,
        absl::StrJoin({rank, absl::StrCat(s.dp), absl::StrCat(s.pp), absl::StrCat(s.tp), absl::StrCat(s.micro_batches),
                       absl::StrCat(s.offload ? 1 : 0), absl::StrCat(c.concurrency)},
                      ","),
        ",");
    if (c.fits) {
      const StageMemory& m = c.fullest;
      absl::StrAppendFormat(&text, "%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.4f,%d,%d,%d,%d,%d,%d,%d,%d,%d,", c.running,
                            c.tokens_per_second, c.tokens_per_second_device, c.tokens_per_second_user,
                            1e3 * c.ttft_seconds, 1e3 * c.tpot_seconds, c.bubble, m.weights, m.kv_cache, m.activations,
                            m.reserve, m.free(), c.offloaded_bytes, c.on_disk_bytes, c.pareto, c.not_served.empty());
    } else {
      text += std::string(16, ',');
    }
    absl::StrAppend(&text, c.dropped.empty() ? "" : absl::StrCat("\"", c.dropped, "\""),
                    "\n");  // reasons hold no quotes
  };
  for (size_t i = 0; i < report.search.ranked.size(); ++i) add(report.search.ranked[i], absl::StrCat(i + 1));
  for (const Candidate& c : report.search.dropped) add(c, "");
  return text;
}

}  // namespace causeway
