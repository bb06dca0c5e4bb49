#include "server/commands/search.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/status.h"
#include "engine/device/cuda_library.h"
#include "server/commands/calibration_file.h"
#include "server/startup/engine_options.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

constexpr int64_t kTokensMax = int64_t{1} << 24, kRequestsMax = int64_t{1} << 20;

// A flag that is not given leaves the value as it is.
absl::Status SetCount(absl::string_view flag, absl::string_view text, int64_t most, int64_t* value) {
  if (text.empty() || (absl::SimpleAtoi(text, value) && *value >= 1 && *value <= most)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": expected a whole number from 1 to ", most, ", got \"", text, "\""));
}

absl::Status SetLimit(absl::string_view flag, const std::string& text, double* seconds) {
  double value = 0;
  if (text.empty()) return absl::OkStatus();
  if (!absl::SimpleAtod(text, &value) || !(value > 0) || !std::isfinite(value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": expected milliseconds above 0, got \"", text, "\""));
  }
  *seconds = value / 1e3;
  return absl::OkStatus();
}

absl::StatusOr<Workload> ReadWorkload(const SearchFlags& flags) {
  Workload workload;
  CAUSEWAY_RETURN_IF_ERROR(SetCount("prompt-tokens", flags.prompt_tokens, kTokensMax, &workload.prompt_tokens));
  CAUSEWAY_RETURN_IF_ERROR(SetCount("output-tokens", flags.output_tokens, kTokensMax, &workload.output_tokens));
  if (!flags.concurrency.empty()) {
    workload.concurrency.clear();
    for (absl::string_view item : absl::StrSplit(flags.concurrency, ',')) {
      CAUSEWAY_RETURN_IF_ERROR(SetCount("concurrency", item, kRequestsMax, &workload.concurrency.emplace_back(0)));
      if (workload.concurrency.back() == 0)
        return absl::InvalidArgumentError(
            absl::StrCat("--concurrency: expected numbers with commas between, got \"", flags.concurrency, "\""));
    }
  }
  CAUSEWAY_RETURN_IF_ERROR(SetLimit("max-ttft-ms", flags.max_ttft_ms, &workload.ttft_seconds_max));
  CAUSEWAY_RETURN_IF_ERROR(SetLimit("max-tpot-ms", flags.max_tpot_ms, &workload.tpot_seconds_max));
  return workload;
}

// The model as devices of this kind hold it. It is placed, as weights alone, on a device that has room for anything.
absl::StatusOr<PlacedModel> ReadHeld(EngineOptions options, Device device) {
  device.memory_bytes = device.available_bytes = int64_t{1} << 60;
  options.plan = {};
  options.plan.kv_cache_tokens = 0;
  return PlaceModel(options, std::vector<Device>{device});
}

absl::Status WriteText(const std::string& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  return out ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(file, ": cannot be written"));
}

// Writes a file for each replica whose devices differ from those of all before it. The second file for FILE.yaml is
// FILE-2.yaml.
absl::Status WriteConfigs(const std::string& file, const LoadedConfig& loaded, const EngineOptions& options,
                          const ModelSpec& spec, const SearchReport& report) {
  const Search& search = report.search;
  if (search.best_served < 0) {
    const std::string why = search.ranked.empty() ? absl::StrCat("; ", StrategyName(search.dropped.front().strategy),
                                                                 ": ", search.dropped.front().dropped)
                                                  : "";
    return absl::FailedPreconditionError(absl::StrCat(
        "--config-out: there is no strategy that fits, keeps the limits and can be served by this version", why));
  }
  const Candidate& best = search.ranked[search.best_served];
  std::vector<int> alike(best.replicas.size());  // for each replica, the first one like it
  for (size_t r = 0; r < alike.size(); ++r) {
    const auto first =
        std::find_if(best.replicas.begin(), best.replicas.end(), [&](const std::vector<StageMemory>& other) {
          return std::equal(other.begin(), other.end(), best.replicas[r].begin(),
                            [&](const StageMemory& a, const StageMemory& b) {
                              return report.fleet.devices[a.device].Like(report.fleet.devices[b.device]);
                            });
        });
    alike[r] = static_cast<int>(first - best.replicas.begin());
  }
  // Replicas that are all alike, and on one machine, are one daemon's.
  const auto node = [&](const std::vector<StageMemory>& replica) {
    return report.fleet.devices[replica.front().device].node;
  };
  const bool together = std::all_of(alike.begin(), alike.end(), [](int first) { return first == 0; }) &&
                        std::all_of(best.replicas.begin(), best.replicas.end(),
                                    [&](const auto& replica) { return node(replica) == node(best.replicas.front()); });
  if (together) {
    CAUSEWAY_ASSIGN_OR_RETURN(const std::string text,
                              StrategyConfig(loaded, options, spec, report, 0, static_cast<int>(alike.size())));
    CAUSEWAY_RETURN_IF_ERROR(WriteText(file, text));
    std::fprintf(stderr, "%s: a configuration for rank %d, %s\n", file.c_str(), search.best_served + 1,
                 StrategyName(best.strategy).c_str());
    return absl::OkStatus();
  }
  const std::filesystem::path path(file);
  for (int r = 0; r < static_cast<int>(alike.size()); ++r) {
    if (alike[r] != r) continue;
    const std::string of_replica =
        r == 0
            ? file
            : (path.parent_path() / absl::StrCat(path.stem().string(), "-", r + 1, path.extension().string())).string();
    CAUSEWAY_ASSIGN_OR_RETURN(const std::string text, StrategyConfig(loaded, options, spec, report, r, /*copies=*/1));
    CAUSEWAY_RETURN_IF_ERROR(WriteText(of_replica, text));
    std::vector<int> others;
    for (int i = r + 1; i < static_cast<int>(alike.size()); ++i) {
      if (alike[i] == r) others.push_back(i + 1);
    }
    const std::string which =
        alike.size() == 1 ? ""
                          : absl::StrCat(", replica ", r + 1,
                                         others.empty() ? "" : absl::StrCat(", as for ", absl::StrJoin(others, ", ")));
    std::fprintf(stderr, "%s: a configuration for rank %d, %s%s\n", of_replica.c_str(), search.best_served + 1,
                 StrategyName(best.strategy).c_str(), which.c_str());
  }
  return absl::OkStatus();
}

// Warns of configured fields that the search decides itself.
void WarnOfIgnored(const LoadedConfig& loaded) {
  for (const char* path :
       {"placement.device_map", "placement.parallel", "batching.max_num_seqs", "batching.kv_cache"}) {
    if (const auto found = loaded.origins.find(path); found != loaded.origins.end())
      std::fprintf(stderr, "warning: %s is left aside: the search decides it\n", loaded.Where(path).c_str());
  }
}

std::string Printed(const SearchReport& report, const std::string& format) {
  if (format == "json") return SearchJson(report);
  if (format == "csv") return SearchCsv(report);
  return format == "markdown" ? SearchMarkdown(report) : SearchTable(report);
}

}  // namespace

std::vector<CommandFlag> SearchFlags::Flags() {
  return {{"prompt-tokens", "N", "With --search: tokens of each prompt. Empty: 512.", &prompt_tokens},
          {"output-tokens", "N", "With --search: tokens generated for each. Empty: 128.", &output_tokens},
          {"concurrency", "N,N,...",
           "With --search: requests at once, over the whole fleet; several are all tried. Empty: 64.", &concurrency},
          {"max-ttft-ms", "MS", "With --search: drops what takes longer to the first token.", &max_ttft_ms},
          {"max-tpot-ms", "MS", "With --search: drops what takes longer for each token after it.", &max_tpot_ms},
          {"nodes", "N",
           "With --search: machines that the devices are divided among, evenly and in their order. Empty: 1.", &nodes},
          {"network", "SPEED",
           "With --search: of each device between nodes, in one direction (\"400Gb/s\", \"50GB/s\"). Empty: 400Gb/s.",
           &network},
          {"config-out", "FILE", "With --search: writes a configuration for the best strategy that can be served.",
           &config_out},
          {"calibration", "FILE",
           "Measured speeds. Empty: causeway/calibration.json in the user's cache, if it is there.", &calibration}};
}

std::string SearchFlags::Given() const {
  SearchFlags copy = *this;
  for (const CommandFlag& flag : copy.Flags()) {
    if (!flag.target->empty()) return absl::StrCat("--", flag.name);
  }
  return "";
}

absl::StatusOr<std::string> RunSearch(const LoadedConfig& loaded, const SearchFlags& flags, const std::string& format) {
  CAUSEWAY_ASSIGN_OR_RETURN(Workload workload, ReadWorkload(flags));
  workload.running_max = static_cast<int64_t>(FindFieldByPath("batching.max_num_seqs")->rules->max());
  FleetOptions fleet_options;
  int64_t nodes = 1;
  CAUSEWAY_RETURN_IF_ERROR(SetCount("nodes", flags.nodes, 1024, &nodes));
  fleet_options.nodes = static_cast<int>(nodes);
  if (!flags.network.empty()) {
    absl::StatusOr<double> speed = ParseLinkSpeed(flags.network);
    if (!speed.ok())
      return absl::InvalidArgumentError(absl::StrCat("--network: ", std::string(speed.status().message())));
    fleet_options.network_bytes_per_second = *speed;
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const EngineOptions options, MakeEngineOptions(loaded));
  CAUSEWAY_ASSIGN_OR_RETURN(const Calibration calibration, ReadCalibrationFile(flags.calibration));
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Device> devices,
                            ParseDevices(options.devices, [] { return CudaDevices(); }));
  fleet_options.max_memory = options.plan.max_memory;
  fleet_options.offload_to_disk = options.plan.offload_to_disk;
  fleet_options.offload_stream = options.executor.offload_cpu_rows == 0;
  fleet_options.cpu_model = CpuDevice().model;
  fleet_options.cpu_threads = options.executor.cpu_threads;
  CAUSEWAY_ASSIGN_OR_RETURN(const Fleet fleet, MakeFleet(devices, fleet_options, calibration));
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel model, ReadHeld(options, devices.front()));

  const PlanOptions plan_options = PlanOptionsFor(options, model.plan.options.dtype);
  CAUSEWAY_ASSIGN_OR_RETURN(const Search search, SearchStrategies(model.spec, fleet, plan_options, workload));
  WarnOfIgnored(loaded);
  for (const std::string& warning : model.spec.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  const SearchReport report{.model = absl::StrCat(model.plan.model, ", ", DTypeName(plan_options.dtype)),
                            .fleet = fleet,
                            .workload = workload,
                            .search = search};
  if (!flags.config_out.empty()) {
    CAUSEWAY_RETURN_IF_ERROR(WriteConfigs(flags.config_out, loaded, options, model.spec, report));
  }
  return Printed(report, format);
}

}  // namespace causeway
