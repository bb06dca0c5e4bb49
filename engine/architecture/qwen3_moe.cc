#include <set>
#include <vector>

#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"
#include "engine/architecture/parts.h"

namespace causeway {
namespace {

// On every layer, or on none: the field's class does not know max_window_layers.
Windows ReadWindows(ConfigReader& config) {
  const bool on = config.Bool("use_sliding_window", false);
  const Windows windows = on ? ReadWindow(config, 4096) : NoWindow(config);
  if (config.Int("max_window_layers", 0, kLayersMax, 0) > 0 && windows.width > 0)
    config.Unsupported(
        "max_window_layers: a sliding window on some of the layers is not supported in this architecture");
  return windows;
}

}  // namespace

ModelSpec MakeQwen3Moe(ConfigReader& config, DType dtype) {
  const bool attention_bias = config.Bool("attention_bias", false);
  ExpertTraits experts;
  experts.count = config.Int("num_experts|num_local_experts", 1, kExpertsMax);
  experts.width = config.Int("moe_intermediate_size", 1, kWidthMax);
  experts.rule = {.experts_per_token = ReadExpertsPerToken(config, experts.count, 8),
                  .normalize = config.Bool("norm_topk_prob", false)};
  const int64_t step = config.Int("decoder_sparse_step", 1, kLayersMax, 1);
  const std::vector<int64_t> listed = config.Ids("mlp_only_layers", "a layer's index");
  const std::set<int64_t> dense(listed.begin(), listed.end());
  experts.sparse = [step, dense](int64_t layer) { return (layer + 1) % step == 0 && dense.count(layer) == 0; };
  return MakeDecoder(config, dtype,
                     {.kind = "Qwen3Moe",
                      .qkv_bias = attention_bias,
                      .output_bias = attention_bias,
                      .query_key_norms = QueryKeyNorms::kPerHead,
                      .context_max = 32768,
                      .windows = ReadWindows(config),
                      .experts = experts});
}

}  // namespace causeway
