#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/architecture/held_bytes.h"
#include "engine/architecture/quantization.h"
#include "engine/architecture/registry.h"
#include "engine/base/listed.h"
#include "engine/base/status.h"
#include "engine/checkpoint/hub.h"
#include "engine/device/cuda_library.h"
#include "engine/engine.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "engine/plan/replicas.h"
#include "engine/threads/processors.h"

namespace causeway {
namespace {

constexpr size_t kListedMax = 8;

// The name requests may use: org/name as given, or the last part of the folder's path.
std::string ModelName(const std::string& model) {
  std::error_code error;
  if (!std::filesystem::exists(model, error)) return model;
  // A link keeps its own name, since someone chose that.
  std::filesystem::path path = std::filesystem::absolute(model, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "models/kjv/"
  return path.filename().string();
}

// The fused kernels pad weights. Where ATen computes (on GPUs, when asked to), weights are held as they are stored.
bool HasFusedWeights(const std::vector<Device>& devices, bool reference_ops) {
  const bool on_cpu =
      std::any_of(devices.begin(), devices.end(), [](const Device& device) { return ComputesOnCpu(device.kind); });
  return on_cpu && !reference_ops;
}

int64_t FusedLinearBytes(const LinearSpec& linear, DType dtype) {
  const bool bias = std::any_of(linear.parts.begin(), linear.parts.end(),
                                [](const LinearSpec::Part& part) { return !part.bias.empty(); });
  return CpuWeightBytes(linear.out_features(), linear.in_features, bias, DTypeBytes(dtype), linear.format);
}

// The checkpoint's model, with its weights quantized as `quantize` says while they are loaded.
absl::StatusOr<ModelSpec> MakeSpec(const Checkpoint& checkpoint, DType dtype, absl::string_view quantize) {
  CAUSEWAY_ASSIGN_OR_RETURN(ModelSpec spec, MakeModelSpec(checkpoint.config(), checkpoint.generation_config(), dtype));
  CAUSEWAY_ASSIGN_OR_RETURN(const WeightFormat format, ParseQuantize(quantize));
  CAUSEWAY_RETURN_IF_ERROR(QuantizeOnLoad(format, spec));
  return spec;
}

absl::StatusOr<PlacedModel> Place(PlacedModel placed, const EngineOptions& options,
                                  const std::vector<Device>& devices) {
  const PlanOptions plan_options = placed.plan.options;
  const auto count_held = [&](DType held, ModelSpec& spec) {
    if (!HasFusedWeights(devices, plan_options.reference_ops)) return;
    CountHeldBytes([held](const LinearSpec& linear) { return FusedLinearBytes(linear, held); }, spec);
  };
  count_held(plan_options.dtype, placed.spec);
  const auto narrower = [&](DType narrow, const std::string& quantize) -> absl::StatusOr<ModelSpec> {
    CAUSEWAY_ASSIGN_OR_RETURN(ModelSpec spec,
                              MakeSpec(*placed.checkpoint, narrow, quantize.empty() ? options.quantize : quantize));
    count_held(narrow, spec);
    return spec;
  };
  if (devices.front().at_hand) {
    std::string warning = ThreadsWarning(options.executor.cpu_threads, ThisMachine());
    if (!warning.empty()) placed.spec.warnings.push_back(std::move(warning));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(placed.replicas, MakeReplicas(placed.spec, devices, plan_options, narrower, count_held));
  placed.plan = JoinReplicas(placed.replicas);
  return placed;
}

}  // namespace

PlanOptions PlanOptionsFor(const EngineOptions& options, DType dtype) {
  PlanOptions plan = options.plan;
  plan.dtype = dtype;
  plan.reference_ops = options.executor.reference_ops;
  plan.cpu_threads = options.plan_threads > 0 ? options.plan_threads : ThreadsFor(options.executor.cpu_threads);
  return plan;
}

absl::StatusOr<PlacedModel> ReadModel(const EngineOptions& options, Purpose purpose) {
  const bool planning = purpose == Purpose::kPlanning;
  PlacedModel placed;
  placed.name = ModelName(options.model);
  CAUSEWAY_ASSIGN_OR_RETURN(placed.folder, ResolveModel(options.model));
  CAUSEWAY_ASSIGN_OR_RETURN(
      placed.checkpoint,
      Checkpoint::Open(placed.folder, planning ? Checkpoint::Weights::kOptional : Checkpoint::Weights::kRequired));
  CAUSEWAY_ASSIGN_OR_RETURN(const DType dtype, ComputeDType(options.dtype, *placed.checkpoint));
  CAUSEWAY_ASSIGN_OR_RETURN(placed.spec, MakeSpec(*placed.checkpoint, dtype, options.quantize));
  if (placed.checkpoint->files().empty()) {
    placed.spec.warnings.push_back(
        absl::StrCat(placed.folder, " does not have the weights; their sizes are what its config.json asks for"));
  } else {
    // Refuses a checkpoint with wrong tensors before a device is looked at.
    std::vector<std::string> unused;
    CAUSEWAY_RETURN_IF_ERROR(MatchTensors(placed.spec, *placed.checkpoint, &unused).status());
    if (!unused.empty()) {
      placed.spec.warnings.push_back(
          absl::StrCat("tensors that ", placed.spec.architecture, " has no use for: ", Listed(unused, kListedMax)));
    }
  }
  const std::vector<std::string>& more = placed.checkpoint->warnings();
  placed.spec.warnings.insert(placed.spec.warnings.end(), more.begin(), more.end());
  placed.plan.options = PlanOptionsFor(options, dtype);
  return placed;
}

absl::StatusOr<FoundDevices> FindDevices(const EngineOptions& options, Purpose purpose) {
  FoundDevices found;
  absl::Status cuda;
  std::vector<std::string> unable;
  const auto cuda_devices = [&cuda, &unable] {
    absl::StatusOr<std::vector<Device>> listed = CudaDevices();
    cuda = listed.status();
    for (const Device& device : listed.ok() ? *listed : std::vector<Device>()) {
      if (const absl::Status able = CanCompute(device); !able.ok()) unable.emplace_back(able.message());
    }
    return listed;
  };
  CAUSEWAY_ASSIGN_OR_RETURN(found.devices, ParseDevices(options.devices, cuda_devices));
  if (purpose == Purpose::kRunning && !found.devices.front().at_hand) {
    return absl::InvalidArgumentError(
        absl::StrCat("devices \"", options.devices, "\" can be planned for, and nothing runs on them; ",
                     "name some that are at hand: \"cuda\", \"cpu\", \"simulated:1x4GiB\""));
  }
  if (absl::IsNotFound(cuda)) {
    found.no_driver = std::string(cuda.message());
  } else if (!cuda.ok()) {
    found.warnings.push_back(absl::StrCat("GPUs are left out: ", cuda.message()));
  }
  if (options.devices.empty() || options.devices == "auto") {
    for (const std::string& why : unable) found.warnings.push_back(absl::StrCat("a GPU is left out: ", why));
  }
  return found;
}

absl::StatusOr<PlacedModel> PlaceModel(const EngineOptions& options, Purpose purpose) {
  CAUSEWAY_ASSIGN_OR_RETURN(PlacedModel placed, ReadModel(options, purpose));
  CAUSEWAY_ASSIGN_OR_RETURN(FoundDevices found, FindDevices(options, purpose));
  placed.no_driver = std::move(found.no_driver);
  std::move(found.warnings.begin(), found.warnings.end(), std::back_inserter(placed.spec.warnings));
  return Place(std::move(placed), options, found.devices);
}

absl::StatusOr<PlacedModel> PlaceModel(const EngineOptions& options, const std::vector<Device>& devices,
                                       Purpose purpose) {
  CAUSEWAY_ASSIGN_OR_RETURN(PlacedModel placed, ReadModel(options, purpose));
  return Place(std::move(placed), options, devices);
}

}  // namespace causeway
