#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/status.h"
#include "engine/engine.h"
#include "engine/measure/bandwidth.h"
#include "engine/threads/processors.h"
#include "server/commands/bench_load.h"
#include "server/commands/bench_run.h"
#include "server/commands/commands.h"
#include "server/daemon/load_meter.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

constexpr int64_t kCountMax = 1'000'000;

struct BenchFlags {
  std::string batch = "1,4,16", prompt = "128", generate = "32", format = "table", load;
};

absl::StatusOr<std::vector<int64_t>> Counts(const std::string& flag, const std::string& text) {
  std::vector<int64_t> counts;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int64_t count;
    if (!absl::SimpleAtoi(part, &count) || count < 1 || count > kCountMax) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": expected whole numbers in [1, ", kCountMax,
                                                     "] with commas between, got \"", text, "\""));
    }
    counts.push_back(count);
  }
  return counts;
}

absl::StatusOr<std::vector<BenchCase>> Cases(const BenchFlags& flags) {
  if (!flags.load.empty() && flags.load != "warm" && flags.load != "cold") {
    return absl::InvalidArgumentError(absl::StrCat("--load: expected warm or cold, got \"", flags.load, "\""));
  }
  if (flags.format != "table" && flags.format != "json") {
    return absl::InvalidArgumentError(absl::StrCat("--format: expected table or json, got \"", flags.format, "\""));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const auto batches, Counts("batch", flags.batch));
  CAUSEWAY_ASSIGN_OR_RETURN(const auto prompts, Counts("prompt", flags.prompt));
  CAUSEWAY_ASSIGN_OR_RETURN(const auto lengths, Counts("generate", flags.generate));
  std::vector<BenchCase> cases;
  for (int64_t prompt : prompts) {
    for (int64_t length : lengths) {
      for (int64_t batch : batches)
        cases.push_back({.batch = batch, .prompt_tokens = prompt, .generated_tokens = length});
    }
  }
  return cases;
}

// SizeFor sets these, whatever the configuration says.
const std::set<std::string> kSized = {"max-model-len", "max-num-seqs", "kv-cache"};

// The bandwidth of the memory of the devices that hold the model. It is empty where one of them is a GPU (the host's
// memory is measured), or where there is no room to measure.
std::optional<double> Bandwidth(const Plan& plan, int threads) {
  for (const DevicePlan& device : plan.devices) {
    if (!device.units.empty() && !ComputesOnCpu(device.device.kind)) return std::nullopt;
  }
  const double measured = MeasureReadBandwidth(threads);
  return measured > 0 ? std::optional<double>(measured) : std::nullopt;
}

// Prints how loading compares with reading the files alone, and what memory it took.
void PrintLoad(const LoadTimes& times, const PlacedModel& placed, bool json) {
  const double share = times.bytes_per_second() / times.files_bytes_per_second;
  if (json) {
    const nlohmann::ordered_json row = {{"bytes", times.bytes},
                                        {"seconds", times.seconds},
                                        {"threads", times.threads},
                                        {"bytes_per_second", times.bytes_per_second()},
                                        {"files_bytes_per_second", times.files_bytes_per_second},
                                        {"weight_bytes", times.weight_bytes},
                                        {"resident_bytes_before", times.before_bytes},
                                        {"resident_bytes_peak", times.peak_bytes}};
    std::printf("%s\n", row.dump().c_str());
    return;
  }
  std::printf("%s, loaded by %d threads: %s in %.2f s, %.2f GB/s\n", placed.plan.model.c_str(), times.threads,
              FormatBytes(times.bytes).c_str(), times.seconds, times.bytes_per_second() / 1e9);
  std::printf("Its files alone, read by as many into fresh memory: %.2f GB/s; loading is %.0f%% of that\n",
              times.files_bytes_per_second / 1e9, 100 * share);
  std::printf("Memory: %s before, %s at most, for %s of weights\n", FormatBytes(times.before_bytes).c_str(),
              FormatBytes(times.peak_bytes).c_str(), FormatBytes(times.weight_bytes).c_str());
}

class Report {
 public:
  Report(bool json, const PlacedModel& placed, int threads, std::optional<double> bandwidth)
      : json_(json), threads_(threads), bandwidth_(bandwidth), dtype_(DTypeName(placed.plan.options.dtype)) {
    const Plan& plan = placed.plan;
    std::vector<std::string> names;
    for (const DevicePlan& device : plan.devices) {
      weight_bytes_ += device.weights;
      if (!device.units.empty()) names.push_back(device.device.name);
    }
    devices_ = absl::StrJoin(names, ",");
    step_bytes_ = BenchStepBytes(placed.spec, plan);
    if (json_) return;
    std::printf("%s, %s of weights, %s, %s, %d %s", plan.model.c_str(), FormatBytes(weight_bytes_).c_str(),
                dtype_.c_str(), devices_.c_str(), threads_, threads_ == 1 ? "thread" : "threads");
    if (bandwidth_.has_value()) std::printf(" read at %.1f GB/s", *bandwidth_ / 1e9);
    std::printf("\n\n%6s %8s %10s %16s %16s%s\n", "batch", "prompt", "generated", "prefill tok/s", "decode tok/s",
                bandwidth_.has_value() ? "   of bandwidth" : "");
  }

  void Row(const BenchCase& bench, const BenchTimes& times) const {
    const double prefill = static_cast<double>(bench.batch * bench.prompt_tokens) / times.prefill_seconds;
    const double steps = static_cast<double>(bench.generated_tokens) / times.decode_seconds;
    const double decode = steps * static_cast<double>(bench.batch);
    if (json_) {
      nlohmann::ordered_json row = {
          {"batch", bench.batch},
          {"prompt_tokens", bench.prompt_tokens},
          {"generated_tokens", bench.generated_tokens},
          {"prefill_tokens_per_second", prefill},
          {"decode_tokens_per_second", decode},
          {"weight_bytes", weight_bytes_},
          {"bandwidth_bytes_per_second",
           bandwidth_.has_value() ? nlohmann::ordered_json(*bandwidth_) : nlohmann::ordered_json()},
          {"dtype", dtype_},
          {"devices", devices_},
          {"threads", threads_}};
      std::printf("%s\n", row.dump().c_str());
    } else {
      std::printf("%6lld %8lld %10lld %16.1f %16.1f", static_cast<long long>(bench.batch),
                  static_cast<long long>(bench.prompt_tokens), static_cast<long long>(bench.generated_tokens), prefill,
                  decode);
      // How near decoding comes to the speed of reading once the weights that a step needs.
      if (bandwidth_.has_value())
        std::printf(" %13.0f%%",
                    100 * steps * static_cast<double>(step_bytes_ - times.idle_expert_bytes) / *bandwidth_);
      std::printf("\n");
    }
    std::fflush(stdout);
  }

 private:
  const bool json_;
  const int threads_;
  const std::optional<double> bandwidth_;
  const std::string dtype_;
  std::string devices_;
  int64_t weight_bytes_ = 0, step_bytes_ = 0;
};

absl::Status Bench(const LoadedConfig& loaded, const std::vector<BenchCase>& cases, bool json,
                   const std::string& load) {
  CAUSEWAY_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(loaded));
  SizeFor(cases, &options.plan);
  absl::StatusOr<PlacedModel> made = PlaceModel(options);
  // The planner names max_model_len, which nobody has set.
  if (absl::IsInvalidArgument(made.status()) && absl::StartsWith(made.status().message(), "max_model_len")) {
    return absl::InvalidArgumentError(absl::StrCat("--prompt and --generate: the longest case needs ",
                                                   options.plan.max_model_len,
                                                   " tokens in all: ", std::string(made.status().message())));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel placed, std::move(made));
  for (const std::string& warning : placed.spec.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  LoadMeter meter(LoadDisplayFor(loaded.config.log().format()));
  if (placed.replicas.size() > 1)
    return absl::InvalidArgumentError("bench measures one replica; leave dp out of placement.parallel");
  const auto progress = [&meter](const LoadProgress& now) { meter.Update(now); };
  if (!load.empty()) {
    const absl::StatusOr<LoadTimes> times =
        MeasureLoad(placed.spec, *placed.checkpoint, placed.plan, options.executor, load == "cold", progress);
    meter.Finish();
    CAUSEWAY_RETURN_IF_ERROR(times.status());
    PrintLoad(*times, placed, json);
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Executor>> made_executor =
      MakeExecutor(placed.spec, *placed.checkpoint, placed.plan, options.executor, progress);
  meter.Finish();
  CAUSEWAY_ASSIGN_OR_RETURN(const std::unique_ptr<Executor> executor, std::move(made_executor));
  const int threads = ThreadsFor(options.executor.cpu_threads);
  const Report report(json, placed, threads, Bandwidth(placed.plan, threads));
  std::set<int64_t> warm;
  for (const BenchCase& bench : cases) {
    // The first run of a shape chooses kernels, touches pages and makes buffers.
    if (warm.insert(bench.batch).second) {
      BenchCase brief = bench;
      brief.generated_tokens = std::min<int64_t>(bench.generated_tokens, 2);
      CAUSEWAY_RETURN_IF_ERROR(RunBenchCase(*executor, placed.plan, placed.spec.vocab_size, brief).status());
    }
    CAUSEWAY_ASSIGN_OR_RETURN(const BenchTimes times,
                              RunBenchCase(*executor, placed.plan, placed.spec.vocab_size, bench));
    report.Row(bench, times);
  }
  return absl::OkStatus();
}

}  // namespace

int BenchCommand(const std::vector<std::string>& arguments) {
  BenchFlags flags;
  CommandStart start =
      StartCommand("bench", "measures prefill and decode of a model in this process, on random token ids", arguments,
                   {{"batch", "N,N,...", "Sequences at once.", &flags.batch},
                    {"prompt", "N,N,...", "Tokens of each prompt.", &flags.prompt},
                    {"generate", "N,N,...", "Tokens generated for each.", &flags.generate},
                    {"load", "warm|cold",
                     "Measures loading instead, beside reading the files alone: from the page cache, or from the disk.",
                     &flags.load},
                    {"format", "table|json", "json: one object a row.", &flags.format}},
                   kSized);
  if (start.exit >= 0) return start.exit;
  absl::StatusOr<std::vector<BenchCase>> cases = Cases(flags);
  if (!cases.ok()) {
    std::fprintf(stderr, "causewayd: %s\n", std::string(cases.status().message()).c_str());
    return kExitUsage;
  }
  if (absl::Status status = StartProfile(start.loaded); !status.ok()) return Fail(status);
  const absl::Status status = Bench(start.loaded, *cases, flags.format == "json", flags.load);
  StopProfile();
  return status.ok() ? 0 : Fail(status);
}

}  // namespace causeway
