#include "engine/plan/plan.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/plan/capacity.h"
#include "engine/plan/custom_map.h"
#include "engine/plan/field_policy.h"
#include "engine/plan/layout.h"
#include "engine/plan/memory.h"
#include "engine/plan/ranks.h"
#include "engine/plan/remedies.h"

namespace causeway {
namespace {

// Far above what serves anyone, and low enough that no sum of bytes overflows.
constexpr int64_t kSeqsMax = 4096;  // the range of the option: more would be advised to no use
constexpr int64_t kBatchedTokensMax = int64_t{1} << 24;
constexpr double kKvBytesMax = 1e18;
constexpr int kSpillTriesMax = 16;

absl::Status InRange(absl::string_view name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; expected ", least, " to ", most));
}

// Checks the options and fills in max_model_len and the demand for KV cache.
// `ranks`: the model as each rank of a group has it.
absl::StatusOr<KvDemand> FillOptions(absl::Span<const ModelSpec> ranks, PlanOptions& options) {
  const ModelSpec& spec = ranks.front();
  if (options.max_model_len == 0) options.max_model_len = std::min(spec.context_max, kModelLenMax);
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  CAUSEWAY_RETURN_IF_ERROR(InRange("max_model_len", options.max_model_len, 2, kModelLenMax));
  CAUSEWAY_RETURN_IF_ERROR(InRange("max_num_seqs", options.max_num_seqs, 1, kSeqsMax));
  CAUSEWAY_RETURN_IF_ERROR(InRange("max_num_batched_tokens", options.max_num_batched_tokens, 1, kBatchedTokensMax));
  if (options.max_num_batched_tokens < options.max_num_seqs) {
    return absl::InvalidArgumentError(absl::StrCat("max_num_batched_tokens is ", options.max_num_batched_tokens,
                                                   "; expected at least max_num_seqs, ", options.max_num_seqs,
                                                   ", since each running sequence takes a token of a step"));
  }
  CAUSEWAY_RETURN_IF_ERROR(InRange("kv_cache_tokens", options.kv_cache_tokens, -1, kAny - kBlockTokens));
  CAUSEWAY_RETURN_IF_ERROR(InRange("kv_cache_bytes", options.kv_cache_bytes, -1, kAny));
  if (options.max_model_len > spec.context_max) {
    return absl::InvalidArgumentError(absl::StrCat("max_model_len is ", options.max_model_len,
                                                   ", but the model was made for ", spec.context_max, " positions"));
  }
  if (options.kv_cache_tokens >= 0 && options.kv_cache_bytes >= 0) {
    return absl::InvalidArgumentError("the KV cache's size is given in tokens and in bytes; give one of them");
  }

  const int64_t per_sequence = BlocksFor(options.max_model_len);
  int64_t block_bytes = 0;
  for (const ModelSpec& rank : ranks)
    block_bytes += static_cast<int64_t>(spec.layers.size()) * LayerKvBytesPerBlock(rank, options);
  const int64_t blocks = options.kv_cache_bytes >= 0    ? options.kv_cache_bytes / std::max<int64_t>(1, block_bytes)
                         : options.kv_cache_tokens >= 0 ? BlocksFor(options.kv_cache_tokens)
                                                        : per_sequence;
  const int64_t most = std::max(blocks, per_sequence);
  if (static_cast<double>(most) * static_cast<double>(block_bytes) > kKvBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a KV cache of ", most * kBlockTokens,
                                                   " tokens would take more than an exabyte; lower ",
                                                   most == per_sequence ? "max_model_len" : "kv_cache"));
  }
  if (options.kv_cache_tokens < 0 && options.kv_cache_bytes < 0)
    return KvDemand{per_sequence, per_sequence * options.max_num_seqs};
  if (options.kv_cache_tokens != 0 && blocks < per_sequence) {
    return absl::InvalidArgumentError(absl::StrCat("a KV cache of ", blocks * kBlockTokens, " tokens (",
                                                   FormatBytes(blocks * block_bytes), ") cannot hold one sequence of ",
                                                   options.max_model_len, " (", FormatBytes(per_sequence * block_bytes),
                                                   "); give it more, or lower max_model_len"));
  }
  return KvDemand{blocks, blocks};
}

// By node of the index: the least KV cache of the layers inside.
std::vector<int64_t> LeastKvBytes(const LayoutInput& in) {
  std::vector<int64_t> bytes(in.index.nodes().size(), 0);
  const int64_t layer_bytes = in.kv.blocks_least * LayerKvBytesPerBlock(in.spec, in.options);
  for (const LayerSpec& layer : in.spec.layers) {
    for (int i = in.index.Find(layer.path); i >= 0; i = in.index.node(i).parent) bytes[i] += layer_bytes;
  }
  return bytes;
}

// What a device's budget leaves for weights and KV cache, whichever units and however many devices the map will use.
int64_t WithKv(const LayoutInput& in, size_t device, int live) {
  std::vector<int> units(in.units.count());
  std::iota(units.begin(), units.end(), 0);
  return in.budgets.bytes[device] - in.reserve(device) -
         ActivationBytes(in.spec, units, in.options, in.devices[device].kind) -
         HandoffBytes(in.spec, in.options, live, in.devices[device].kind);
}

// `kept_free`, by device: what layers that spill from it, but are computed there, need of its room.
absl::StatusOr<PartMap> FieldMap(const LayoutInput& in, FieldStrategy strategy, const std::vector<int64_t>& kept_free) {
  std::vector<FieldBudget> devices;
  FieldBudget cpu{.key = "cpu", .bytes = in.budgets.cpu_offload_bytes};
  const auto live =
      std::count_if(in.budgets.bytes.begin(), in.budgets.bytes.end(), [](int64_t bytes) { return bytes > 0; });
  for (size_t i = 0; i < in.devices.size(); ++i) {
    FieldBudget budget{.key = in.devices[i].key(), .bytes = in.budgets.bytes[i]};
    if (!in.weights_only) budget.with_kv = WithKv(in, i, static_cast<int>(live)) - kept_free[i];
    const bool listed = in.options.max_memory.empty() || in.budgets.is_given[i];
    if (in.devices[i].kind == DeviceKind::kCpu) {
      cpu = budget;
    } else if (listed) {
      devices.push_back(budget);
    }
  }
  std::sort(devices.begin(), devices.end(),
            [](const FieldBudget& a, const FieldBudget& b) { return std::stoi(a.key) < std::stoi(b.key); });
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<int64_t> caps, FieldCaps(in.index, devices, strategy));
  for (size_t i = 0; i < devices.size(); ++i) devices[i].bytes = caps[i];
  if (cpu.bytes > 0) devices.push_back(cpu);
  return FieldFill(in.index, devices, in.weights_only ? std::vector<int64_t>() : LeastKvBytes(in));
}

absl::StatusOr<PartMap> CustomMap(const LayoutInput& in) {
  CAUSEWAY_ASSIGN_OR_RETURN(auto checked, CheckCustomMap(in.index, in.devices, in.options.custom_map));
  PartMap map;
  std::string device;  // of the part before, for parts without parameters that no entry covers
  for (const int part : in.units.parts) {
    const ModuleNode& node = in.index.node(part);
    // An entry may name what is inside the part. All of its tensors that are on devices agree.
    const std::string* found = nullptr;
    for (int i = part; i < node.end; ++i) {
      if (in.index.node(i).tensor == nullptr) continue;
      const std::string* covered = LookUp(checked, in.index.node(i).path);
      if (covered == nullptr) continue;
      const bool on_device = FindDevice(in.devices, *covered) != nullptr;
      if (found == nullptr || on_device) found = covered;
      if (on_device) break;
    }
    if (found == nullptr) found = LookUp(checked, node.path);
    if (found != nullptr) device = *found;
    map.device_map[node.path] = device.empty() ? checked.begin()->second : device;
    map.reasons[node.path] = "the custom map says so";
    // What it has in a tier may be a part of a block.
    for (auto [path, where] : checked) {
      if (FindDevice(in.devices, where) != nullptr || !IsPathPrefix(node.path, path) || path == node.path) continue;
      map.device_map[path] = where;
      map.reasons[path] = "the custom map says so";
    }
  }
  return map;
}

absl::StatusOr<PartMap> OneDeviceMap(const LayoutInput& in) {
  const std::string& wanted = in.options.device_map;
  const Device* device = FindDevice(in.devices, wanted);
  if (device == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device_map \"", wanted,
        "\" is neither a policy (auto, balanced, balanced_low_0, sequential, custom) nor one of the devices (",
        absl::StrJoin(in.devices, ", ", [](std::string* out, const Device& d) { absl::StrAppend(out, d.name); }), ")",
        wanted == "cpu" ? "; devices \"cpu\" takes the CPU as the device" : ""));
  }
  PartMap map;
  for (const int part : in.units.parts) {
    map.device_map[in.index.node(part).path] = device->key();
    map.reasons[in.index.node(part).path] = absl::StrCat("device_map ", wanted, " puts all on one device");
  }
  return map;
}

AutoInput AutoInputOf(const LayoutInput& in) {
  // GPUs only, where there is one with a budget.
  bool has_gpu = false;
  for (size_t i = 0; i < in.devices.size(); ++i)
    has_gpu |= in.devices[i].kind != DeviceKind::kCpu && in.budgets.bytes[i] > 0;
  std::vector<StageDevice> stages;
  for (size_t i = 0; i < in.devices.size(); ++i) {
    const bool use = in.devices[i].kind != DeviceKind::kCpu || !has_gpu;
    stages.push_back({use ? in.budgets.bytes[i] : 0, in.weights_only ? 0 : in.reserve(i)});
  }
  return {.spec = in.spec,
          .index = in.index,
          .units = in.units,
          .devices = in.devices,
          .stages = std::move(stages),
          .options = in.options,
          .kv = in.kv,
          .weights_only = in.weights_only};
}

absl::StatusOr<PartMap> MakeMap(const LayoutInput& in, const std::vector<int64_t>& kept_free) {
  const std::string& policy = in.options.device_map;
  if (const std::optional<FieldStrategy> strategy = FieldStrategyNamed(policy))
    return FieldMap(in, *strategy, kept_free);
  if (policy == "custom") return CustomMap(in);
  if (policy != "auto") return OneDeviceMap(in);
  return AutoMap(AutoInputOf(in));
}

// A model as plans need it, made once for all that are tried.
class PlannedModel {
 public:
  // One rank's.
  struct Share {
    Share(const ModelSpec& rank, const PlanOptions& options)
        : spec(rank),
          index(spec.modules, /*inside_blocks=*/options.device_map == "custom"),
          units(MakeUnitTable(spec, index)),
          pieces(spec),
          small_weights(SmallWeightBytes(spec)) {}

    LayoutInput Input(absl::Span<const Device> devices, const Budgets& budgets, const PlanOptions& options, KvDemand kv,
                      bool names) const {
      return {.spec = spec,
              .index = index,
              .units = units,
              .pieces = pieces,
              .devices = devices,
              .budgets = budgets,
              .options = options,
              .kv = kv,
              .weights_only = options.kv_cache_tokens == 0,
              .small_weights = small_weights,
              .names = names};
    }

    const ModelSpec& spec;
    const ModuleIndex index;
    const UnitTable units;
    const PieceTable pieces;
    const int64_t small_weights;
  };

  PlannedModel(std::vector<ModelSpec> ranks, const PlanOptions& options) : specs_(std::move(ranks)) {
    for (const ModelSpec& spec : specs_) shares_.emplace_back(spec, options);
  }

  const std::vector<ModelSpec>& specs() const { return specs_; }
  const std::deque<Share>& shares() const { return shares_; }
  const Share& first() const { return shares_.front(); }

 private:
  const std::vector<ModelSpec> specs_;
  std::deque<Share> shares_;
};

// Of the model's first rank by a map that is made for it, and then of the others.
absl::StatusOr<std::vector<Layout>> LayOut(const PlannedModel& model, const std::vector<Device>& devices,
                                           const Budgets& budgets, PlanOptions options, bool names) {
  CAUSEWAY_ASSIGN_OR_RETURN(const KvDemand kv, FillOptions(model.specs(), options));
  const LayoutInput input = model.first().Input(devices, budgets, options, kv, names);
  // A field's policy does not know what spilled layers need where they are computed: less for it there, until that
  // fits.
  std::vector<int64_t> kept_free(devices.size(), 0);
  for (int tries = FieldStrategyNamed(options.device_map) ? kSpillTriesMax : 0;; --tries) {
    CAUSEWAY_ASSIGN_OR_RETURN(const PartMap map, MakeMap(input, kept_free));
    std::vector<Layout> layouts;
    for (const PlannedModel::Share& share : model.shares()) {
      CAUSEWAY_ASSIGN_OR_RETURN(Layout layout, MakeLayout(share.Input(devices, budgets, options, kv, names), map));
      layouts.push_back(std::move(layout));
    }
    const Layout& first = layouts.front();
    const bool spills = first.plan.offloaded_to_cpu + first.plan.offloaded_to_disk > 0;
    if (!spills || first.misfits.empty() || tries == 0) return layouts;
    for (const Misfit& misfit : first.misfits) kept_free[misfit.device] += misfit.short_bytes;
  }
}

// The KV cache's blocks in the plan of what is tried, or `enough` of them; -1: it does not fit. Where auto alone
// decides, its cut need not be made for that.
int64_t BlocksThatFit(const PlannedModel& model, const Attempt& tried, int64_t enough) {
  const bool on_cpu = std::any_of(tried.devices.begin(), tried.devices.end(),
                                  [](const Device& device) { return device.kind == DeviceKind::kCpu; });
  if (tried.options.device_map != "auto" || on_cpu || tried.options.offload_to_disk ||
      tried.budgets.cpu_offload_bytes > 0) {
    const auto layouts = LayOut(model, tried.devices, tried.budgets, tried.options, /*names=*/false);
    if (!layouts.ok() || !std::all_of(layouts->begin(), layouts->end(), Fits)) return -1;
    return layouts->front().plan.kv_blocks;
  }
  PlanOptions options = tried.options;
  absl::StatusOr<KvDemand> kv = FillOptions(model.specs(), options);
  if (!kv.ok()) return -1;
  kv->blocks_wanted = std::clamp(enough, kv->blocks_least, kv->blocks_wanted);
  return AutoBlocks(AutoInputOf(model.first().Input(tried.devices, tried.budgets, options, *kv, /*names=*/false)));
}

// The most sequences of the usual length that a plan with so many has a KV cache for.
int64_t SeqsThatFit(const PlannedModel& model, Attempt tried) {
  const int64_t blocks = BlocksFor(std::min(tried.options.max_model_len, kUsualTokens));
  return LargestThat(1, std::min(kSeqsMax, tried.options.max_num_batched_tokens), [&](int64_t seqs) {
    tried.options.max_num_seqs = seqs;
    return BlocksThatFit(model, tried, seqs * blocks) >= seqs * blocks;
  });
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const ModelSpec& spec, const std::vector<Device>& devices, const PlanOptions& options,
                              const NarrowerSpec& narrower, const RecountRank& recount) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Budgets budgets, MakeBudgets(devices, options.max_memory));
  CAUSEWAY_ASSIGN_OR_RETURN(const DeviceGroups groups, GroupDevices(devices, budgets, options.parallel));
  const auto ranks_of = [&](const ModelSpec& whole, DType dtype) {
    return RankSpecs(whole, groups.size,
                     recount ? [&](ModelSpec& rank) { recount(dtype, rank); } : std::function<void(ModelSpec&)>());
  };
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<ModelSpec> ranks, ranks_of(spec, options.dtype));
  const PlannedModel model(std::move(ranks), options);
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<Layout> layouts,
                            LayOut(model, groups.first, groups.budgets, options, /*names=*/true));
  const ModelSpec& first = model.first().spec;
  const Attempt attempt{
      .spec = &first, .devices = groups.first, .budgets = groups.budgets, .options = layouts.front().plan.options};
  if (std::all_of(layouts.begin(), layouts.end(), Fits)) {
    Plan plan = JoinRanks(std::move(layouts), devices, budgets).plan;
    plan.model = spec.title();
    plan.flops_per_token = FlopsPerToken(spec);
    plan.quantization = spec.quantization;
    plan.unquantized = spec.unquantized;
    if (plan.kv_blocks > 0) plan.seqs_fitting = SeqsThatFit(model, attempt);
    plan.options.kv_cache_tokens = plan.kv_blocks * kBlockTokens;
    plan.options.kv_cache_bytes = -1;
    return plan;
  }

  const Layout& layout = *std::find_if(layouts.begin(), layouts.end(), [](const Layout& rank) { return !Fits(rank); });
  const std::string what =
      absl::StrCat(groups.size > 1 ? absl::StrCat("as one of ", groups.size, " ranks of its group: ") : "",
                   DescribeMisfit(first, model.first().index, layout));
  if (!layout.offloaded.empty() || (!layout.unplaced.empty() && options.device_map == "custom"))
    return absl::FailedPreconditionError(what);
  // Try what could be changed, and name what works.
  const auto narrower_rank = [&](DType dtype, const std::string& quantize) -> absl::StatusOr<ModelSpec> {
    CAUSEWAY_ASSIGN_OR_RETURN(const ModelSpec whole, narrower(dtype, quantize));
    CAUSEWAY_ASSIGN_OR_RETURN(std::vector<ModelSpec> shares, ranks_of(whole, dtype));
    return std::move(shares.front());
  };
  const std::string remedies =
      FindRemedies(attempt, narrower ? NarrowerSpec(narrower_rank) : nullptr, [&](const Attempt& changed) {
        if (changed.spec == &first) return BlocksThatFit(model, changed, /*enough=*/0) >= 0;
        return BlocksThatFit(PlannedModel({*changed.spec}, options), changed, /*enough=*/0) >= 0;
      });
  return absl::FailedPreconditionError(absl::StrCat(what, ". ", remedies));
}

}  // namespace causeway
