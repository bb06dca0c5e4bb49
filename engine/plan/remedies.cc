#include "engine/plan/remedies.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/limits.h"
#include "engine/plan/catalogue.h"
#include "engine/plan/memory.h"
#include "engine/plan/unit_table.h"

namespace causeway {
namespace {

constexpr int64_t kDevicesTriedMax = 64;
constexpr double kMemoryFactorMax = 1024;
constexpr int kRoundingTriesMax = 8;
constexpr size_t kShortDevicesNamedMax = 3;

// "model.layers.3 to model.layers.8", or all of a few.
std::string PartNames(const ModuleIndex& index, const std::vector<int>& parts) {
  // Modules without weights of their own (dropout) say nothing, unless there is nothing else (a tied head).
  const bool any = std::any_of(parts.begin(), parts.end(), [&](int part) { return index.node(part).bytes > 0; });
  std::vector<std::string> names;
  for (const int part : parts) {
    if (index.node(part).bytes > 0 || !any) names.push_back(index.node(part).path);
  }
  if (names.size() <= 3) return absl::StrJoin(names, ", ");
  return absl::StrCat(names.front(), " to ", names.back(), " (", names.size(), " modules)");
}

int64_t Bytes(const ModuleIndex& index, const std::vector<int>& parts) {
  int64_t bytes = 0;
  for (const int part : parts) bytes += index.node(part).bytes;
  return bytes;
}

Attempt WithMemory(const Attempt& attempt, double factor) {
  Attempt changed = attempt;
  for (int64_t& bytes : changed.budgets.bytes) bytes = static_cast<int64_t>(static_cast<double>(bytes) * factor);
  return changed;
}

// The least size, from `bytes` on, that FormatBytes writes as it is: a proposal must do when it is typed in.
int64_t RoundUpAsPrinted(int64_t bytes) {
  auto printed = [](int64_t n) { return ParseBytes(FormatBytes(n)).value_or(n); };
  int64_t rounded = printed(bytes);
  for (int64_t more = bytes - rounded; rounded < bytes; more *= 2) rounded = printed(bytes + more);
  return rounded;
}

// Whether the devices at hand can be given these budgets. Simulated ones are as large as one says.
bool HaveMemory(const Attempt& attempt) {
  for (size_t i = 0; i < attempt.devices.size(); ++i) {
    const Device& device = attempt.devices[i];
    if (device.kind != DeviceKind::kSimulated && attempt.budgets.bytes[i] > device.available_bytes) return false;
  }
  return true;
}

// Larger budgets where the devices have the memory, else larger devices; empty where neither helps.
std::string MoreMemory(const Attempt& attempt, const std::function<bool(const Attempt&)>& fits) {
  if (!fits(WithMemory(attempt, kMemoryFactorMax))) return "";
  double least = 1, enough = kMemoryFactorMax;
  while (enough / least > 1.005) {
    const double middle = std::max(least * 1.001, (least + enough) / 2);
    (fits(WithMemory(attempt, middle)) ? enough : least) = middle;
  }
  std::vector<int64_t> budgets;
  for (const int64_t bytes : attempt.budgets.bytes) {
    if (bytes > 0) budgets.push_back(bytes);
  }
  const bool equal = std::all_of(budgets.begin(), budgets.end(), [&](int64_t bytes) { return bytes == budgets[0]; });
  const bool several = budgets.size() > 1;

  // What is said is what is tried, rounded as it will be written. More does not always fit, so the next figures get a
  // chance.
  int64_t size = RoundUpAsPrinted(static_cast<int64_t>(static_cast<double>(budgets[0]) * enough) + 1);
  double factor = std::ceil(enough * 100) / 100;
  for (int tries = 0; tries < kRoundingTriesMax; ++tries) {
    Attempt changed = WithMemory(attempt, factor);
    for (int64_t& bytes : changed.budgets.bytes) {
      if (equal && bytes > 0) bytes = size;
    }
    if (fits(changed)) {
      const bool at_hand = HaveMemory(changed);
      if (!equal) return absl::StrFormat("%s %.2f times as large", at_hand ? "budgets" : "devices", factor);
      if (at_hand)
        return absl::StrCat("a budget of ", FormatBytes(size), several ? " a device" : "", " instead of ",
                            FormatBytes(budgets[0]));
      // Of what is free on a device, its budget is 0.9 unless max_memory says otherwise.
      const std::string free = FormatBytes(RoundUpAsPrinted(size / 9 * 10 + 10));
      return several ? absl::StrCat("devices with ", free, " free each")
                     : absl::StrCat("a device with ", free, " free");
    }
    size = RoundUpAsPrinted(size + 1);
    factor += 0.01;
  }
  return "";
}

// Of devices of the catalogue, as many of another kind: the one with the least memory that does. Empty: none, or these
// are no such devices.
std::string OtherDevices(const Attempt& attempt, const std::function<bool(const Attempt&)>& fits) {
  const Device& first = attempt.devices.front();
  const auto alike = [&](const Device& device) {
    return device.kind == DeviceKind::kCuda && !device.at_hand && device.model == first.model;
  };
  if (!std::all_of(attempt.devices.begin(), attempt.devices.end(), alike) || !attempt.options.max_memory.empty())
    return "";
  std::vector<const CatalogueDevice*> larger;
  for (const CatalogueDevice& known : Catalogue()) {
    if (known.memory_bytes > first.memory_bytes && known.compute_capability >= kComputeCapabilityMin)
      larger.push_back(&known);
  }
  std::stable_sort(larger.begin(), larger.end(),
                   [](const auto* a, const auto* b) { return a->memory_bytes < b->memory_bytes; });
  const auto too_small = [&](const CatalogueDevice* known) {
    Attempt changed = attempt;
    for (Device& device : changed.devices) device.memory_bytes = device.available_bytes = known->memory_bytes;
    const absl::StatusOr<Budgets> budgets = MakeBudgets(changed.devices, {});
    if (!budgets.ok()) return true;
    changed.budgets = *budgets;
    return !fits(changed);
  };
  const auto least = std::partition_point(larger.begin(), larger.end(), too_small);
  return least == larger.end() ? "" : absl::StrCat("devices ", attempt.devices.size(), "x", (*least)->name);
}

// The fewest more of the last device, up to kDevicesTriedMax in all, each of its memory; 0: they don't help.
int64_t MoreDevices(const Attempt& attempt, const std::function<bool(const Attempt&)>& fits) {
  const auto fits_with = [&](int64_t count) {
    Attempt changed = attempt;
    for (int64_t i = 0; i < count; ++i) {
      changed.devices.push_back(attempt.devices.back());
      changed.devices.back().id += static_cast<int>(i) + 1;
      changed.budgets.bytes.push_back(attempt.budgets.bytes.back());
      changed.budgets.is_given.push_back(attempt.budgets.is_given.back());
    }
    return fits(changed);
  };
  const int64_t most = kDevicesTriedMax - static_cast<int64_t>(attempt.devices.size());
  int64_t too_few = 0, enough = 1;
  while (enough <= most && !fits_with(enough)) {
    too_few = enough;
    enough = enough < most ? std::min(most, 2 * enough) : most + 1;
  }
  if (enough > most) return 0;
  while (enough - too_few > 1) {
    const int64_t middle = too_few + (enough - too_few) / 2;
    (fits_with(middle) ? enough : too_few) = middle;
  }
  return enough;
}

}  // namespace

int64_t LargestThat(int64_t least, int64_t most, const std::function<bool(int64_t)>& works) {
  if (most < least || !works(least)) return 0;
  int64_t good = least, bad = most + 1;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (works(middle) ? good : bad) = middle;
  }
  return good;
}

bool Fits(const Layout& layout) {
  return layout.misfits.empty() && layout.unplaced.empty() && layout.offloaded.empty() && layout.tiers_short == 0;
}

std::string DescribeMisfit(const ModelSpec& spec, const ModuleIndex& index, const Layout& layout) {
  const PlanOptions& options = layout.plan.options;
  const std::string policy = absl::StrCat("device_map ", options.device_map);
  if (layout.tiers_short > 0) {
    return absl::StrCat(policy, " leaves no room on the devices for all weights: CPU memory is short of ",
                        FormatBytes(layout.tiers_short), " for those that left them, and there is no offload_folder");
  }
  if (!layout.offloaded.empty()) {
    return absl::StrCat(policy, " puts ", PartNames(index, layout.offloaded), ", ",
                        FormatBytes(Bytes(index, layout.offloaded)),
                        ", in CPU memory, which has no budget; give it one (max_memory \"...,cpu:",
                        FormatBytes(Bytes(index, layout.offloaded)), "\"), or leave cpu out");
  }
  if (!layout.unplaced.empty() && options.device_map == "custom") {
    return absl::StrCat(policy, " puts ", PartNames(index, layout.unplaced), ", ",
                        FormatBytes(Bytes(index, layout.unplaced)),
                        ", on disk, and there is no offload_folder; set one, or put them on a device");
  }
  if (!layout.unplaced.empty()) {
    int64_t budget = 0;
    for (const DevicePlan& device : layout.plan.devices) budget += device.budget;
    return absl::StrCat("the model does not fit: with ", policy, ", ", PartNames(index, layout.unplaced),
                        " find no room, ", FormatBytes(Bytes(index, layout.unplaced)), " of ",
                        FormatBytes(index.node(0).bytes), " of weights; the budgets come to ", FormatBytes(budget),
                        options.kv_cache_tokens == 0 ? "" : ", and KV cache and activations need room there too");
  }
  std::vector<std::string> short_devices;
  for (const Misfit& misfit : layout.misfits) {
    if (short_devices.size() == kShortDevicesNamedMax) {
      short_devices.push_back(
          absl::StrCat("and ", layout.misfits.size() - kShortDevicesNamedMax, " more devices are short"));
      break;
    }
    const DevicePlan& device = layout.plan.devices[misfit.device];
    std::vector<std::string> uses = {absl::StrCat("weights ", FormatBytes(device.weights - device.staging))};
    if (device.staging > 0)
      uses.push_back(absl::StrCat("the buffer for offloaded weights ", FormatBytes(device.staging)));
    if (device.kv_cache > 0) {
      uses.push_back(absl::StrFormat("KV cache of %d tokens %s", layout.plan.kv_blocks * kBlockTokens,
                                     FormatBytes(device.kv_cache)));
    }
    if (device.activations > 0) uses.push_back(absl::StrCat("activations ", FormatBytes(device.activations)));
    if (device.reserve > 0) uses.push_back(absl::StrCat("reserve ", FormatBytes(device.reserve)));
    const std::string held = UnitNames(UnitsOf(spec), device.units);
    short_devices.push_back(absl::StrCat(device.device.name, " is ", FormatBytes(misfit.short_bytes),
                                         " short: its budget is ", FormatBytes(device.budget), ", and ",
                                         held.empty() ? "what it holds" : held, " take", held.empty() ? "s" : "", " ",
                                         absl::StrJoin(uses, " + ")));
  }
  return absl::StrCat("the model does not fit with ", policy, ": ", absl::StrJoin(short_devices, "; "));
}

std::string FindRemedies(const Attempt& attempt, const NarrowerSpec& narrower,
                         const std::function<bool(const Attempt&)>& fits) {
  std::vector<std::string> found;
  const PlanOptions& options = attempt.options;
  // The most of one setting that fits, in multiples of `unit`.
  const auto try_less = [&](absl::string_view name, int64_t least, int64_t now, int64_t unit,
                            int64_t PlanOptions::* field) {
    const int64_t count = LargestThat(least, (now - 1) / unit, [&](int64_t n) {
      Attempt changed = attempt;
      if (field == &PlanOptions::kv_cache_tokens) changed.options.kv_cache_bytes = -1;
      changed.options.*field = n * unit;
      return fits(changed);
    });
    if (count > 0) found.push_back(absl::StrCat(name, " ", count * unit, " instead of ", now));
  };
  // Fewer tokens: shorter sequences, or a smaller cache than was asked for.
  if (options.kv_cache_tokens < 0 && options.kv_cache_bytes < 0) {
    try_less("max_model_len", 1, options.max_model_len, kBlockTokens, &PlanOptions::max_model_len);
  } else if (options.kv_cache_tokens != 0) {
    const int64_t block_bytes =
        static_cast<int64_t>(attempt.spec->layers.size()) * LayerKvBytesPerBlock(*attempt.spec, options);
    const int64_t asked =
        options.kv_cache_bytes >= 0 ? options.kv_cache_bytes / block_bytes * kBlockTokens : options.kv_cache_tokens;
    try_less("kv_cache", BlocksFor(options.max_model_len), asked, kBlockTokens, &PlanOptions::kv_cache_tokens);
  }
  try_less("max_num_batched_tokens", BlocksFor(options.max_num_seqs), options.max_num_batched_tokens, kBlockTokens,
           &PlanOptions::max_num_batched_tokens);
  try_less("max_num_seqs", 1, options.max_num_seqs, 1, &PlanOptions::max_num_seqs);
  const auto fits_narrower = [&](DType dtype, const std::string& quantize) {
    if (narrower == nullptr) return false;
    const absl::StatusOr<ModelSpec> spec = narrower(dtype, quantize);
    if (!spec.ok()) return false;
    Attempt changed = attempt;
    changed.spec = &*spec;
    changed.options.dtype = dtype;
    return fits(changed);
  };
  if (options.dtype == DType::kF32 && fits_narrower(DType::kBF16, "")) found.push_back("dtype bf16 instead of fp32");
  for (const char* quantize : {"int8", "int4"}) {
    if (!fits_narrower(options.dtype, quantize)) continue;
    found.push_back(absl::StrCat("quantize ", quantize));
    break;
  }
  if (KvDType(options) != DType::kI8) {
    Attempt changed = attempt;
    changed.options.kv_dtype = DType::kI8;
    if (fits(changed)) found.push_back("kv_cache_dtype int8");
  }
  if (!options.offload_to_disk) {
    Attempt changed = attempt;
    changed.options.offload_to_disk = true;
    if (fits(changed)) found.push_back("an offload_folder, from which weights come when they are needed");
  }
  if (options.device_map != "auto") {
    Attempt changed = attempt;
    changed.options.device_map = "auto";
    if (fits(changed)) found.push_back("device_map auto");
  }

  if (std::string memory = MoreMemory(attempt, fits); !memory.empty()) found.push_back(std::move(memory));
  if (std::string others = OtherDevices(attempt, fits); !others.empty()) found.push_back(std::move(others));
  const Device& last = attempt.devices.back();
  if (last.kind != DeviceKind::kCpu && attempt.budgets.bytes.back() > 0) {
    const int64_t count = MoreDevices(attempt, fits);
    if (count > 0)
      found.push_back(absl::StrCat(count, " more ", count > 1 ? "devices" : "device", " like ", last.name));
  }
  if (found.empty()) return "No single change would make it fit: it needs more or larger devices, and smaller settings";
  return absl::StrCat("Any of these would make it fit: ", absl::StrJoin(found, "; "));
}

}  // namespace causeway
