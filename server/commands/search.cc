#include "server/commands/search.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status.h"
#include "engine/execution/device_runtime.h"
#include "server/commands/calibration_file.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

constexpr int64_t kTokensMax = int64_t{1} << 24, kRequestsMax = int64_t{1} << 20;

// What is not given stays as it is.
absl::Status SetCount(absl::string_view flag, absl::string_view text, int64_t most, int64_t* value) {
  if (text.empty() || (absl::SimpleAtoi(text, value) && *value >= 1 && *value <= most)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": expected a whole number from 1 to ", most, ", got \"", text, "\""));
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
      if (workload.concurrency.back() == 0) return absl::InvalidArgumentError(absl::StrCat("--concurrency: expected numbers with commas between, got \"", flags.concurrency, "\""));
    }
  }
  CAUSEWAY_RETURN_IF_ERROR(SetLimit("max-ttft-ms", flags.max_ttft_ms, &workload.ttft_seconds_max));
  CAUSEWAY_RETURN_IF_ERROR(SetLimit("max-tpot-ms", flags.max_tpot_ms, &workload.tpot_seconds_max));
  return workload;
}

// The model as devices of this kind hold it: placed, as weights alone, on one that has room for anything.
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

std::string Printed(const SearchReport& report, const std::string& format) {
  if (format == "json") return SearchJson(report);
  if (format == "csv") return SearchCsv(report);
  return format == "markdown" ? SearchMarkdown(report) : SearchTable(report);
}

}  // namespace

std::vector<CommandFlag> SearchFlags::Flags() {
  return {{"prompt-tokens", "N", "With --search: tokens of each prompt. Empty: 512.", &prompt_tokens},
          {"output-tokens", "N", "With --search: tokens generated for each. Empty: 128.", &output_tokens},
          {"concurrency", "N,N,...", "With --search: requests at once, over the whole fleet; several are all tried. Empty: 64.", &concurrency},
          {"max-ttft-ms", "MS", "With --search: drops what takes longer to the first token.", &max_ttft_ms},
          {"max-tpot-ms", "MS", "With --search: drops what takes longer for each token after it.", &max_tpot_ms},
          {"nodes", "N", "With --search: machines that the devices are divided among, evenly and in their order. Empty: 1.", &nodes},
          {"network", "SPEED", "With --search: of each device between nodes, in one direction (\"400Gb/s\", \"50GB/s\"). Empty: 400Gb/s.", &network},
          {"config-out", "FILE", "With --search: writes a configuration for the best strategy that can be served.", &config_out},
          {"calibration", "FILE", "Measured speeds. Empty: causeway/calibration.json in the user's cache, if it is there.", &calibration}};
}

std::string SearchFlags::Given() const {
  SearchFlags copy = *this;
  for (const CommandFlag& flag : copy.Flags()) {
    if (!flag.target->empty()) return absl::StrCat("--", flag.name);
  }
  return "";
}

absl::StatusOr<std::string> RunSearch(const LoadedConfig& loaded, const SearchFlags& flags, const std::string& format) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Workload workload, ReadWorkload(flags));
  FleetOptions fleet_options;
  int64_t nodes = 1;
  CAUSEWAY_RETURN_IF_ERROR(SetCount("nodes", flags.nodes, 1024, &nodes));
  fleet_options.nodes = static_cast<int>(nodes);
  if (!flags.network.empty()) {
    absl::StatusOr<double> speed = ParseLinkSpeed(flags.network);
    if (!speed.ok()) return absl::InvalidArgumentError(absl::StrCat("--network: ", std::string(speed.status().message())));
    fleet_options.network_bytes_per_second = *speed;
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const EngineOptions options, MakeEngineOptions(loaded));
  CAUSEWAY_ASSIGN_OR_RETURN(const Calibration calibration, ReadCalibrationFile(flags.calibration));
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Device> devices, ParseDevices(options.devices, [] { return CudaDevices(); }));
  fleet_options.max_memory = options.plan.max_memory;
  fleet_options.cpu_model = CpuDevice().model;
  CAUSEWAY_ASSIGN_OR_RETURN(const Fleet fleet, MakeFleet(devices, fleet_options, calibration));
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel model, ReadHeld(options, devices.front()));

  PlanOptions plan_options = options.plan;
  plan_options.dtype = model.plan.options.dtype;
  plan_options.reference_ops = options.executor.reference_ops;
  plan_options.cpu_threads = options.executor.cpu_threads;
  CAUSEWAY_ASSIGN_OR_RETURN(const Search search, SearchStrategies(model.spec, fleet, plan_options, workload));
  for (const std::string& warning : model.spec.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  const SearchReport report{.model = absl::StrCat(model.plan.model, ", ", DTypeName(plan_options.dtype)), .fleet = fleet, .workload = workload, .search = search};
  if (!flags.config_out.empty()) {
    if (search.best_served < 0) return absl::FailedPreconditionError("--config-out: there is no strategy that fits, keeps the limits and can be served by this version");
    const Candidate& best = search.ranked[search.best_served];
    CAUSEWAY_ASSIGN_OR_RETURN(const std::string text, StrategyConfig(loaded, options, report, best));
    CAUSEWAY_RETURN_IF_ERROR(WriteText(flags.config_out, text));
    std::fprintf(stderr, "%s: a configuration for rank %d, %s\n", flags.config_out.c_str(), search.best_served + 1, StrategyName(best.strategy).c_str());
  }
  return Printed(report, format);
}

}  // namespace causeway
