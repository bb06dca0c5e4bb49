#include "engine/plan/capacity.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/base/limits.h"
#include "engine/plan/catalogue.h"
#include "engine/plan/memory.h"

namespace causeway {
namespace {

constexpr int64_t kCommonTokens[] = {8192, 2048, 512};

// "1234567" -> "1,234,567"
std::string Grouped(int64_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

// The sequences with which a step's products take as long as reading its weights, one device after the other. Nothing
// where the catalogue lacks a device or does not say how fast it computes in this dtype, and where weights come from
// elsewhere.
std::optional<int64_t> SeqsThatCompute(const Plan& plan) {
  if (plan.flops_per_token <= 0 || plan.offloaded_to_cpu + plan.offloaded_to_disk > 0) return std::nullopt;
  double weights = 0, reading = 0, computing = 0;  // bytes; seconds of a step; seconds of a token, times weights
  for (const DevicePlan& device : plan.devices) {
    if (device.units.empty()) continue;
    const CatalogueDevice* known = FindInCatalogue(device.device.model);
    if (known == nullptr) return std::nullopt;
    const auto flops = known->flops.find(plan.options.dtype);
    if (flops == known->flops.end()) return std::nullopt;
    const auto bytes = static_cast<double>(device.weights);
    weights += bytes;
    reading += bytes / known->memory_bytes_per_second;
    computing += bytes * plan.flops_per_token / flops->second;
  }
  return std::max<int64_t>(1, static_cast<int64_t>(reading / (computing / weights)));
}

}  // namespace

Capacity CapacityOf(const Plan& plan) {
  const PlanOptions& options = plan.options;
  Capacity capacity;
  capacity.sequences.push_back({options.max_model_len, plan.kv_blocks / BlocksFor(options.max_model_len)});
  for (const int64_t tokens : kCommonTokens) {
    if (tokens < options.max_model_len) capacity.sequences.push_back({tokens, plan.kv_blocks / BlocksFor(tokens)});
  }

  const std::string sequences =
      absl::StrCat("sequences of ", Grouped(std::min(options.max_model_len, kUsualTokens)), " tokens");
  capacity.seqs_worth = plan.seqs_fitting;
  const std::optional<int64_t> computing = SeqsThatCompute(plan);
  capacity.speed_known = computing.has_value();
  if (computing.has_value() && *computing < plan.seqs_fitting) {
    capacity.seqs_worth = *computing;
    capacity.reason = absl::StrCat("with more, computing takes longer than reading the weights; ",
                                   Grouped(plan.seqs_fitting), " ", sequences, " have room");
  } else if (plan.seqs_fitting == options.max_num_batched_tokens) {
    capacity.reason =
        absl::StrCat("a step has no more tokens, max_num_batched_tokens, and as many ", sequences, " have room");
  } else {
    capacity.reason = absl::StrCat("as many ", sequences, " as have room");
  }
  if (!capacity.speed_known) capacity.reason += "; whether fewer are faster is not known here";
  return capacity;
}

std::vector<std::string> CapacityRemarks(const Plan& plan) {
  if (plan.kv_blocks == 0) return {"No KV cache in this plan: weights alone, as device maps of the field count."};
  const Capacity capacity = CapacityOf(plan);
  std::string line = absl::StrCat(
      "KV cache: ", Grouped(plan.kv_blocks * kBlockTokens), " tokens (", Grouped(plan.kv_blocks), " blocks of ",
      kBlockTokens, ", ", DTypeName(KvDType(plan.options)), ", ", FormatBytes(plan.kv_bytes_per_token), " a token): ");
  for (size_t i = 0; i < capacity.sequences.size(); ++i) {
    const auto& [tokens, count] = capacity.sequences[i];
    absl::StrAppend(&line, i > 0 ? ", " : "", Grouped(count),
                    i > 0        ? ""
                    : count == 1 ? " sequence"
                                 : " sequences",
                    " of ", Grouped(tokens), i > 0 ? "" : " tokens");
  }
  const int64_t most = plan.options.max_num_seqs;
  const int64_t tokens_of_most = plan.kv_blocks / most * kBlockTokens;
  if (most > capacity.sequences[0].count && tokens_of_most > 0)
    absl::StrAppend(&line, ", or ", Grouped(most), " of ", Grouped(tokens_of_most));
  line += ".";
  if (plan.kv_cache_shares)
    line += " It leaves half of the CPU's memory to others and takes 8 GiB at most; max_memory gives it more.";
  if (capacity.seqs_worth == 0) return {line};
  return {line, absl::StrCat("max_num_seqs ", capacity.speed_known ? "" : "may be up to ", capacity.seqs_worth,
                             capacity.speed_known ? " is worth setting: " : ": ", capacity.reason, ".")};
}

double FlopsPerToken(const ModelSpec& spec) {
  const auto flops = [](const LinearSpec& linear) {
    return 2.0 * static_cast<double>(linear.in_features) * static_cast<double>(linear.out_features());
  };
  double sum = flops(spec.head);
  for (const LayerSpec& layer : spec.layers) {
    sum += flops(layer.attention.qkv) + flops(layer.attention.output);
    if (!layer.moe.has_value()) {
      sum += flops(layer.mlp.up) + flops(layer.mlp.down);
      continue;
    }
    const MlpSpec& expert = layer.moe->experts.front();
    sum += flops(layer.moe->router) +
           static_cast<double>(layer.moe->rule.experts_per_token) * (flops(expert.up) + flops(expert.down));
  }
  return sum;
}

}  // namespace causeway
