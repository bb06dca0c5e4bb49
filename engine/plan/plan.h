// Where everything lives: a pure function from a model's modules, the devices and the options to a Plan.
#ifndef CAUSEWAY_ENGINE_PLAN_PLAN_H_
#define CAUSEWAY_ENGINE_PLAN_PLAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/architecture/units.h"
#include "engine/plan/device.h"
#include "engine/plan/tier.h"

namespace causeway {

// How devices share a model: dp replicas of pp groups of tp devices. pp 0: as many groups as there are.
struct Parallel {
  int dp = 1, pp = 0, tp = 1;
};

struct PlanOptions {
  std::string device_map =
      "auto";  // auto, balanced, balanced_low_0, sequential, custom, or one device: "0", "cuda:0", "cpu"
  std::map<std::string, std::string> custom_map;  // module prefix -> device key, with device_map "custom"
  std::map<std::string, int64_t> max_memory;      // ParseMaxMemory's result
  Parallel parallel;                              // groups of neighbours are placed on as one device
  DType dtype = DType::kBF16;                     // of weights and activations
  std::optional<DType> kv_dtype;  // of the KV cache: kI8 with a scale for each token and head; nothing: dtype
  int64_t max_model_len = 0;      // 0: the model's context
  int64_t max_num_seqs = 64;
  int64_t max_num_batched_tokens = 2048;
  // The KV cache's size in tokens over the whole model, or in bytes; at most one is set. -1: as much as the budgets
  // leave, up to max_num_seqs sequences of max_model_len. 0 tokens: none, the field's weights-only view.
  int64_t kv_cache_tokens = -1;
  int64_t kv_cache_bytes = -1;
  // Weights that no device holds may be on disk. In CPU memory they may be where max_memory gives the CPU a budget
  // beside devices.
  bool offload_to_disk = false;
  // What activations are reckoned for: the ATen reference in place of fused kernels, and the executor's CPU threads.
  bool reference_ops = false;
  int cpu_threads = 1;
};

// What the KV cache holds.
inline DType KvDType(const PlanOptions& options) { return options.kv_dtype.value_or(options.dtype); }

// Units that a step goes through before it changes devices.
struct Segment {
  UnitRange units;
  std::vector<int> devices;  // indices into Plan::devices: the ranks that compute it together, neighbours

  int replica = 0;  // whose steps go through it, after its segments before

  int device() const { return devices.front(); }
};

// Weights that a device computes from and does not hold: a module's linears, or a table of embeddings.
struct OffloadedModule {
  std::string name;  // "model.layers.3.mlp", "model.layers.3.mlp.experts.17", "lm_head"
  PieceKind kind = PieceKind::kTable;
  int64_t bytes = 0;
  Tier tier = Tier::kCpu;
};

struct DevicePlan {
  Device device;
  int64_t budget = 0;   // bytes that may be used
  int64_t weights = 0;  // held, the staging buffer included
  int64_t kv_cache = 0;
  int64_t activations = 0;                 // worst case of a step
  int64_t reserve = 0;                     // context and libraries
  int64_t free = 0;                        // budget less all of these
  std::vector<int> units;                  // execution units computed here, ascending
  int64_t staging = 0;                     // the buffer that offloaded weights come into, one after the other
  std::vector<OffloadedModule> offloaded;  // in the order in which steps use them
};

struct ModulePlacement {
  std::string name;
  int64_t bytes = 0;
  std::string device;  // key
  std::string reason;
};

struct Plan {
  PlanOptions options;                            // with defaults filled in (max_model_len, kv_cache_tokens)
  std::string model;                              // architecture and size, for the table's title
  std::string quantization;                       // of the weights, as ModelSpec's; empty: none
  std::vector<std::string> unquantized;           // what stays in the dtype then
  std::vector<DevicePlan> devices;                // those at hand, used or not
  std::map<std::string, std::string> device_map;  // shortest prefixes -> device key, a group's being its first one's
  std::vector<ModulePlacement> modules;
  std::vector<Segment> segments;                        // in execution order; neighbours differ in device
  int64_t kv_blocks = 0;                                // of kBlockTokens tokens, the same ids on every device
  int64_t kv_bytes_per_token = 0;                       // over all layers
  double flops_per_token = 0;                           // of products with weights
  int64_t offloaded_to_cpu = 0, offloaded_to_disk = 0;  // bytes, over all devices
  int64_t offload_cpu_taken = 0;  // what the former take of CPU memory: whole pages for each linear
  // A tied head that sits on another device than the embedding has a copy of the weight there.
  bool tied_head_copied = false;
  // Left smaller than the options would have it, so that others have memory on the CPU, too.
  bool kv_cache_shares = false;
  // The most sequences of CapacityOf's usual length for which a plan with that max_num_seqs has a KV cache; 0: none.
  int64_t seqs_fitting = 0;
};

inline Units UnitsOf(const Plan& plan) {
  return plan.segments.empty() ? Units() : Units::OfCount(plan.segments.back().units.last + 1);
}

// The model to be placed as it would be in `dtype`, its weights quantized to `quantize` ("int8", "int4") while they are
// loaded, or as they are to be placed (""): what to propose where it does not fit. An error where that cannot be.
using NarrowerSpec = std::function<absl::StatusOr<ModelSpec>(DType dtype, const std::string& quantize)>;

// Has the module tree of a rank of the model count what its weights take in memory, where that is more than their
// tensors (CountHeldBytes).
using RecountRank = std::function<void(DType dtype, ModelSpec& rank)>;

// Budgets: max_memory's; else a simulated device's memory, 0.9 of what is free on a CUDA device, and 0.9 of what is
// free on the CPU as the only device. There, without max_memory, the KV cache takes at most half of the bytes left and
// at most 8 GiB, since others use that memory too. Activations, the KV cache (at least one sequence of max_model_len)
// and the reserve count against the budgets whatever the map's policy.
//
// FailedPrecondition: it does not fit; the message names the modules and the bytes short, and what would make it fit.
// InvalidArgument: options that contradict the model or the devices.
absl::StatusOr<Plan> MakePlan(const ModelSpec& spec, const std::vector<Device>& devices, const PlanOptions& options,
                              const NarrowerSpec& narrower = nullptr, const RecountRank& recount = nullptr);

// Upper bound of the bytes of activations and workspace (rotary tables, kernels' scratch) of one step on a device of
// this kind that holds `units`. With several devices, MakePlan adds the hidden states in flight between them. The
// executor's warm-up measures the worst step and fails when it is above a device's `activations`.
int64_t ActivationBytes(const ModelSpec& spec, const std::vector<int>& units, const PlanOptions& options,
                        DeviceKind kind = DeviceKind::kCpu);

// The table printed at startup and by `causewayd plan`; `color` adds terminal colours. JSON: see docs.
std::string PlanTable(const Plan& plan, bool color);
std::string PlanMarkdown(const Plan& plan);  // the same, to be put into a document
std::string PlanJson(const Plan& plan);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_PLAN_H_
