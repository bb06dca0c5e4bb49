#include "engine/model/kv_cache.h"

#include <ATen/ops/zeros.h>

#include "engine/model/linear.h"

namespace causeway {

KvCache::KvCache(const ModelContext& context, const std::vector<int>& layers, int64_t blocks, bool int8,
                 const Zeros& zeros) {
  const auto make = [&zeros](at::IntArrayRef sizes, const at::TensorOptions& options) {
    return zeros ? zeros(sizes, options) : at::zeros(sizes, options);
  };
  const at::TensorOptions options = at::TensorOptions(int8 ? at::kChar : context.dtype).device(context.device);
  const int64_t kv_heads = OrThrow(ShardHeads(context.spec, context.group)).kv_heads;
  for (int layer : layers) {
    KvLayer& tensors = layers_[layer];
    for (at::Tensor* side : {&tensors.keys, &tensors.values})
      *side = make({blocks, kv_heads, kBlockTokens, context.spec.head_dim}, options);
    if (!int8) continue;
    for (at::Tensor* scales : {&tensors.key_scales, &tensors.value_scales})
      *scales = make({blocks, kv_heads, kBlockTokens}, options.dtype(at::kFloat));
  }
}

}  // namespace causeway
