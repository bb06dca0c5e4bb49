#include "server/commands/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/architecture/registry.h"
#include "engine/base/status.h"
#include "engine/device/cuda_library.h"
#include "engine/engine.h"
#include "engine/measure/file_bandwidth.h"
#include "engine/measure/operation_speed.h"
#include "engine/strategy/cost.h"
#include "engine/threads/processors.h"
#include "server/commands/bench_run.h"
#include "server/commands/calibration_file.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

constexpr int kRounds = 5;
constexpr absl::Duration kAtLeast = absl::Milliseconds(500),
                         kEnough = absl::Seconds(6);  // of rounds of one case: other programs' load comes and goes
constexpr double kBusy = 0.5;
constexpr int64_t kDiskBytes = int64_t{256} << 20;
// Models with these numbers of layers hold next to nothing. Their steps show what every step and every layer takes.
constexpr int kFewLayers = 2, kManyLayers = 26, kBatch = 16, kStages = 2;

// A prediction and its measurement: one step for decoding, all of it for prefill.
struct Check {
  std::string what;
  double predicted = 0, measured = 0;
  double error() const { return predicted / measured - 1; }
};

const std::vector<BenchCase> kCases = {{1, 128, 32}, {4, 128, 32}, {16, 128, 32}};

// A checkpoint without tokenizer whose weights are zeros.
absl::Status WriteEmptyModel(const std::string& folder, int layers, DType dtype) {
  const Json config = {{"model_type", "llama"},       {"vocab_size", 64},
                       {"hidden_size", 64},           {"intermediate_size", 64},
                       {"num_hidden_layers", layers}, {"num_attention_heads", 1},
                       {"num_key_value_heads", 1},    {"max_position_embeddings", 256},
                       {"tie_word_embeddings", false}};
  CAUSEWAY_ASSIGN_OR_RETURN(const ModelSpec spec, MakeModelSpec(config, Json::object(), dtype));
  Json header = Json::object();
  int64_t bytes = 0;
  VisitParameters(spec.modules, [&](const std::string& path, const Parameter& parameter) {
    if (!parameter.stored()) return;
    const int64_t size = parameter.elements() * 4;
    header[path] = {{"dtype", "F32"}, {"shape", parameter.shape}, {"data_offsets", {bytes, bytes + size}}};
    bytes += size;
  });
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::ofstream(folder + "/config.json") << config.dump();
  std::ofstream file(folder + "/model.safetensors", std::ios::binary);
  for (int shift = 0; shift < 64; shift += 8) file.put(static_cast<char>(length >> shift & 0xff));
  file << text << std::string(static_cast<size_t>(bytes), '\0');
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(folder, ": cannot be written"));
}

struct Running {
  PlacedModel model;
  std::unique_ptr<Executor> executor;
};

absl::StatusOr<Running> Start(EngineOptions options, const std::vector<BenchCase>& cases) {
  SizeFor(cases, &options.plan);
  Running running;
  CAUSEWAY_ASSIGN_OR_RETURN(running.model, PlaceModel(options));
  CAUSEWAY_ASSIGN_OR_RETURN(running.executor, MakeExecutor(running.model.spec, *running.model.checkpoint,
                                                           running.model.plan, options.executor, nullptr));
  return running;
}

// The median of some rounds, after one that warms up.
absl::StatusOr<BenchTimes> Measure(const Running& running, const BenchCase& bench) {
  BenchCase brief = bench;
  brief.generated_tokens = 2;
  CAUSEWAY_RETURN_IF_ERROR(
      RunBenchCase(*running.executor, running.model.plan, running.model.spec.vocab_size, brief).status());
  std::vector<double> prefill, decode;
  const absl::Time start = absl::Now();
  for (int round = 0; round == 0 || (absl::Now() - start < (round < kRounds ? kEnough : kAtLeast)); ++round) {
    CAUSEWAY_ASSIGN_OR_RETURN(const BenchTimes times, RunBenchCase(*running.executor, running.model.plan,
                                                                   running.model.spec.vocab_size, bench));
    prefill.push_back(times.prefill_seconds);
    decode.push_back(times.decode_seconds / static_cast<double>(bench.generated_tokens));
  }
  std::sort(prefill.begin(), prefill.end());
  std::sort(decode.begin(), decode.end());
  return BenchTimes{.prefill_seconds = prefill[prefill.size() / 2], .decode_seconds = decode[decode.size() / 2]};
}

// The time of a decoding step of an empty model. With several stages, which are simulated, it is the time of a step in
// each.
absl::StatusOr<double> EmptyStepSeconds(const EngineOptions& options, int layers, int64_t batch, DType dtype,
                                        int stages = 1) {
  std::string folder = (std::filesystem::temp_directory_path() / "causeway-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return absl::UnavailableError(absl::StrCat(folder, ": cannot be made"));
  const absl::Cleanup remove = [&folder] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  };
  CAUSEWAY_RETURN_IF_ERROR(WriteEmptyModel(folder, layers, dtype));
  const BenchCase bench{.batch = batch, .prompt_tokens = 16, .generated_tokens = 128};
  EngineOptions empty = options;
  empty.model = folder;
  empty.quantize = "none";
  empty.dtype = std::string(DTypeName(dtype));
  empty.plan = {};
  if (stages > 1) {
    empty.devices = absl::StrCat("simulated:", stages, "x256MiB");
    empty.plan.device_map = "custom";
    empty.plan.custom_map = {
        {"model.embed_tokens", "0"}, {"model.norm", absl::StrCat(stages - 1)}, {"lm_head", absl::StrCat(stages - 1)}};
    for (int layer = 0; layer < layers; ++layer)
      empty.plan.custom_map[absl::StrCat("model.layers.", layer)] = absl::StrCat(layer * stages / layers);
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const Running running, Start(empty, {bench}));
  CAUSEWAY_ASSIGN_OR_RETURN(const BenchTimes times, Measure(running, bench));
  return times.decode_seconds;
}

// The time between two stages that have nothing to do but to hand a step on.
absl::StatusOr<double> HandOverSeconds(const EngineOptions& options, DType dtype, const DeviceSpeed& speed) {
  CAUSEWAY_ASSIGN_OR_RETURN(const double round, EmptyStepSeconds(options, kFewLayers, kStages, dtype, kStages));
  StageSeconds stages{
      .stages = std::vector<double>(kStages, speed.step_seconds + kFewLayers / kStages * speed.layer_seconds),
      .turns = std::min(1.0, static_cast<double>(speed.threads) / kStages)};
  stages.stages.back() += speed.sample_seconds;
  return std::max(0.0, (round - RoundSeconds(stages, kStages)) / kStages);
}

// `format` and `head` say how the model's layers and its head are held.
absl::StatusOr<DeviceSpeed> MeasureDevice(const EngineOptions& options, const Device& device, const ModelWork& work,
                                          const WeightFormat& format, const WeightFormat& head) {
  const int threads = ThreadsFor(options.executor.cpu_threads);
  CAUSEWAY_ASSIGN_OR_RETURN(const OperationTimes times,
                            MeasureOperations(device, work.dtype, format, threads, options.executor.reference_ops));
  DeviceSpeed speed;
  speed.linears[work.format] = FitWorkSpeed(times.linears);
  if (work.head_format != work.format) {
    CAUSEWAY_ASSIGN_OR_RETURN(const OperationTimes of_head,
                              MeasureOperations(device, work.dtype, head, threads, options.executor.reference_ops));
    speed.linears[work.head_format] = FitWorkSpeed(of_head.linears);
    if (!of_head.cached.empty()) speed.cached_linears[work.head_format] = FitWorkSpeed(of_head.cached);
  }
  speed.attention = FitWorkSpeed(times.attention);
  if (ComputesOnCpu(device.kind)) speed.threads = threads;
  if (!times.cached.empty()) {
    speed.cache_bytes = times.cache_bytes;
    speed.cached_linears[work.format] = FitWorkSpeed(times.cached);
  }
  WorkTime rows;
  for (const WorkTime& time : times.rows) rows.bytes += time.bytes, rows.seconds += time.seconds;
  speed.row_bytes_per_second = rows.bytes / rows.seconds;
  // PCIe is not measured yet.
  const CatalogueDevice* entry = device.kind == DeviceKind::kCuda ? FindInCatalogue(device.model) : nullptr;
  speed.copy_bytes_per_second = entry != nullptr ? AssumedSpeed(*entry).copy_bytes_per_second : MeasureCopyBandwidth();
  if (speed.copy_bytes_per_second <= 0) return absl::ResourceExhaustedError("no memory to measure copies with");
  CAUSEWAY_ASSIGN_OR_RETURN(const double few, EmptyStepSeconds(options, kFewLayers, 1, work.dtype));
  CAUSEWAY_ASSIGN_OR_RETURN(const double many, EmptyStepSeconds(options, kManyLayers, 1, work.dtype));
  CAUSEWAY_ASSIGN_OR_RETURN(const double batch, EmptyStepSeconds(options, kFewLayers, kBatch, work.dtype));
  speed.layer_seconds = std::max(0.0, (many - few) / (kManyLayers - kFewLayers));
  speed.step_seconds = std::max(0.0, few - kFewLayers * speed.layer_seconds);
  speed.sample_seconds = std::max(0.0, (batch - few) / (kBatch - 1));
  speed.hand_over_seconds = kHandOverSeconds;  // takes two GPUs, and there is one here
  if (ComputesOnCpu(device.kind)) {
    CAUSEWAY_ASSIGN_OR_RETURN(speed.hand_over_seconds, HandOverSeconds(options, work.dtype, speed));
  }
  return speed;
}

// The bandwidth of the offload folder's disk, or else of the one with temporary files; 0 where that one cannot be
// measured.
absl::StatusOr<double> DiskBandwidth(const std::string& offload_folder) {
  const absl::StatusOr<FolderBandwidth> measured = MeasureFolderBandwidth(
      offload_folder.empty() ? std::filesystem::temp_directory_path().string() : offload_folder, kDiskBytes);
  if (!measured.ok() && !offload_folder.empty()) return measured.status();
  return measured.ok() && measured->direct ? measured->read : 0;
}

absl::StatusOr<std::vector<Check>> Checks(const EngineOptions& options, const Fleet& fleet) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Running running, Start(options, kCases));
  const ModelWork work = MakeModelWork(running.model.spec, running.model.plan.options);
  std::vector<Check> decoding, checks;
  for (const BenchCase& bench : kCases) {
    CAUSEWAY_ASSIGN_OR_RETURN(const BenchTimes times, Measure(running, bench));
    const double batch = static_cast<double>(bench.batch), prompt = static_cast<double>(bench.prompt_tokens),
                 generated = static_cast<double>(bench.generated_tokens);
    const double steps =
                     std::ceil(batch * prompt / static_cast<double>(running.model.plan.options.max_num_batched_tokens)),
                 share = batch / steps;
    const StepRows prefill{
        .rows = share * prompt, .sampled = share, .sequences = share, .keys = (prompt + 1) / 2, .context = prompt};
    const StepRows decode{.rows = batch,
                          .sampled = batch,
                          .sequences = batch,
                          .keys = prompt + generated / 2,
                          .context = prompt + generated / 2};
    checks.push_back({absl::StrFormat("prefill of %d x %d tokens", bench.batch, bench.prompt_tokens),
                      steps * StepSeconds(work, prefill, fleet, 0), times.prefill_seconds});
    decoding.push_back({absl::StrFormat("decoding step, batch %d", bench.batch), StepSeconds(work, decode, fleet, 0),
                        times.decode_seconds});
  }
  checks.insert(checks.end(), decoding.begin(), decoding.end());
  return checks;
}

std::string Gigas(double rate) { return absl::StrFormat("%.1f G", rate / 1e9); }

std::string Rates(const WorkSpeed& speed) {
  return absl::StrCat(Gigas(speed.bytes_per_second), "B/s, ", Gigas(speed.flops), "FLOP/s, ",
                      absl::StrFormat("%.0f%% overlap", 100 * speed.overlap), "\n");
}

std::string Table(const std::string& device, const DeviceSpeed& speed, const std::string& format, double disk,
                  const std::string& model, const std::vector<Check>& checks) {
  std::string text = absl::StrCat(device, "\n  linears in ", format, "  ", Rates(speed.linears.at(format)));
  if (speed.cache_bytes > 0)
    absl::StrAppend(&text, "  small ones       ", Rates(speed.cached_linears.at(format)),
                    "                   in models of up to ", FormatBytes(speed.cache_bytes),
                    ", which stay in the cache\n");
  absl::StrAppend(&text, "  attention        ", Rates(speed.attention));
  absl::StrAppend(&text,
                  absl::StrFormat("  a step           %.1f us, each layer %.1f us, each row with a token %.1f us\n",
                                  1e6 * speed.step_seconds, 1e6 * speed.layer_seconds, 1e6 * speed.sample_seconds));
  absl::StrAppend(&text, absl::StrFormat("  from stage to stage %.1f us\n", 1e6 * speed.hand_over_seconds));
  absl::StrAppend(&text, "  norms and such   ", Gigas(speed.row_bytes_per_second), "B/s\n");
  absl::StrAppend(&text, "  copies           ", Gigas(speed.copy_bytes_per_second), "B/s\n");
  if (disk > 0) absl::StrAppend(&text, "  disk             ", Gigas(disk), "B/s, by one thread\n");
  absl::StrAppendFormat(&text, "\n%-28s %12s %12s %8s\n", model, "predicted ms", "measured ms", "error");
  double sum = 0;
  for (const Check& check : checks) {
    absl::StrAppendFormat(&text, "%-28s %12.3f %12.3f %+7.0f%%\n", check.what, 1e3 * check.predicted,
                          1e3 * check.measured, 100 * check.error());
    sum += std::abs(check.error());
  }
  absl::StrAppendFormat(&text, "Mean error %.0f%%.\n", 100 * sum / static_cast<double>(checks.size()));
  return text;
}

std::string JsonText(const std::string& device, const Calibration& calibration, const std::vector<Check>& checks) {
  nlohmann::ordered_json json = {{"device", device},
                                 {"calibration", nlohmann::ordered_json::parse(CalibrationJson(calibration))}};
  json["checks"] = nlohmann::ordered_json::array();
  for (const Check& check : checks)
    json["checks"].push_back(
        {{"what", check.what}, {"predicted_seconds", check.predicted}, {"measured_seconds", check.measured}});
  return json.dump(2) + "\n";
}

}  // namespace

absl::StatusOr<std::string> RunCalibration(const LoadedConfig& loaded, const std::string& file,
                                           const std::string& format) {
  CAUSEWAY_ASSIGN_OR_RETURN(const EngineOptions options, MakeEngineOptions(loaded));
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Device> devices,
                            ParseDevices(options.devices, [] { return CudaDevices(); }));
  if (devices.size() > 1 || !devices.front().at_hand) {
    return absl::InvalidArgumentError(absl::StrCat("--calibrate measures one device that is at hand; --devices names ",
                                                   devices.size(), devices.front().at_hand ? "" : " that are not",
                                                   "; write \"cpu\" or \"cuda:0\""));
  }
  const Device& device = devices.front();
  const CatalogueDevice* entry = device.kind == DeviceKind::kCuda ? FindInCatalogue(device.model) : nullptr;
  const std::string cpu_model = CpuDevice().model, model = entry != nullptr                   ? entry->name
                                                           : device.kind == DeviceKind::kCuda ? device.model
                                                                                              : cpu_model;
  if (double load = 0; getloadavg(&load, 1) == 1 && load > kBusy) {
    std::fprintf(stderr,
                 "warning: others use the processor (%.1f threads of it in the last minute): what is measured now is "
                 "not what it reaches by itself\n",
                 load);
  }
  if (const std::string warning = ThreadsWarning(options.executor.cpu_threads, ThisMachine()); !warning.empty()) {
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  // A file that is no calibration is not overwritten. This says so before it measures.
  if (const absl::Status before = ReadCalibrationFile(file).status(); absl::IsInvalidArgument(before)) return before;
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel read, ReadModel(options, Purpose::kRunning));
  const ModelWork work = MakeModelWork(read.spec, read.plan.options);
  const LayerSpec& layer = read.spec.layers.front();

  Calibration calibration;
  DeviceSpeed& speed = calibration.devices[model];
  CAUSEWAY_ASSIGN_OR_RETURN(
      speed,
      MeasureDevice(options, device, work, (layer.moe.has_value() ? layer.moe->experts.front() : layer.mlp).up.format,
                    read.spec.head.format));
  CAUSEWAY_ASSIGN_OR_RETURN(calibration.disk_bytes_per_second, DiskBandwidth(options.executor.offload_folder));
  CAUSEWAY_RETURN_IF_ERROR(WriteCalibrationFile(file, calibration));

  CAUSEWAY_ASSIGN_OR_RETURN(const Fleet fleet, MakeFleet(devices, {.cpu_model = cpu_model}, calibration));
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Check> checks, Checks(options, fleet));
  if (format == "json") return JsonText(device.name, calibration, checks);
  return Table(absl::StrCat(device.name, ", ", model), speed, work.format, calibration.disk_bytes_per_second,
               read.spec.title(), checks);
}

}  // namespace causeway
