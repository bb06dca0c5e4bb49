#include <string>

#include "absl/strings/str_cat.h"
#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"
#include "engine/architecture/parts.h"

namespace causeway {
namespace {

// Keys of the published configs that the field's class does not read: it computes what these values say, whatever they
// are.
void RefuseOtherVariants(ConfigReader& config) {
  const auto only = [&config](const char* key, const std::string& known) {
    if (const std::string value = config.String(key, known); value != known)
      config.Unsupported(absl::StrCat(key, " \"", Printable(value), "\" is not supported; expected \"", known, "\""));
  };
  only("scoring_func", "sigmoid");
  only("qk_norm_type", "per_layer");
  for (const char* key : {"use_qk_norm", "norm_topk_prob"}) {
    if (!config.Bool(key, true)) config.Unsupported(absl::StrCat(key, " = false is not supported"));
  }
  for (const int64_t type : config.Ids("attn_type_list", "a kind of attention")) {
    if (type == 1) continue;
    config.Unsupported(
        absl::StrCat("attn_type_list: ", type, " is not supported; expected 1 (full attention) for every layer"));
    break;
  }
}

}  // namespace

ModelSpec MakeMiniMaxM2(ConfigReader& config, DType dtype) {
  RefuseOtherVariants(config);
  ExpertTraits experts{.block = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"};
  experts.count = config.Int("num_local_experts|num_experts", 1, kExpertsMax);
  experts.width = config.Int("intermediate_size", 1, kWidthMax);
  experts.rule = {.experts_per_token = ReadExpertsPerToken(config, experts.count, 8),
                  .score = RouterScore::kSigmoid,
                  .normalize = true};
  experts.correction = config.Bool("use_routing_bias", true);
  // Published configs say rotary_dim. A partial_rotary_factor beside it goes before it.
  const int64_t head_dim = config.Int("head_dim", 1, kWidthMax);
  const int64_t rotary_dim = config.Int("rotary_dim", 1, kWidthMax, head_dim);
  return MakeDecoder(config, dtype,
                     {.kind = "MiniMaxM2",
                      .query_key_norms = QueryKeyNorms::kWholeProjection,
                      .context_max = 196608,
                      .theta = 5e6,
                      .partial_rotary = static_cast<double>(rotary_dim) / static_cast<double>(head_dim),
                      .experts = experts});
}

}  // namespace causeway
