#include "engine/model/kv_cache.h"

#include <ATen/ops/zeros.h>

#include "engine/model/linear.h"

namespace causeway {

KvCache::KvCache(const ModelContext& context, const std::vector<int>& layers, int64_t blocks, bool int8,
                 const Zeros& zeros) {
  if (layers.empty()) return;
  const auto make = [&zeros](at::IntArrayRef sizes, const at::TensorOptions& options) {
    return zeros ? zeros(sizes, options) : at::zeros(sizes, options);
  };
  const at::ScalarType type = int8 ? at::kChar : context.dtype;
  const int64_t kv_heads = OrThrow(ShardHeads(context.spec, context.group)).kv_heads.count,
                rows = blocks * kv_heads * kBlockTokens,
                side_bytes = rows * context.spec.head_dim * static_cast<int64_t>(at::elementSize(type)),
                scale_bytes = int8 ? rows * static_cast<int64_t>(sizeof(float)) : 0;
  const at::Tensor all = make({static_cast<int64_t>(layers.size()) * 2 * (side_bytes + scale_bytes)},
                              at::TensorOptions(at::kByte).device(context.device));
  int64_t used = 0;
  const auto cut = [&](int64_t bytes, at::ScalarType as, at::IntArrayRef sizes) {
    used += bytes;
    return all.narrow(0, used - bytes, bytes).view(as).view(sizes);
  };
  for (const int layer : layers) {
    KvLayer& tensors = layers_[layer];
    for (at::Tensor* side : {&tensors.keys, &tensors.values})
      *side = cut(side_bytes, type, {blocks, kv_heads, kBlockTokens, context.spec.head_dim});
    if (!int8) continue;
    for (at::Tensor* scales : {&tensors.key_scales, &tensors.value_scales})
      *scales = cut(scale_bytes, at::kFloat, {blocks, kv_heads, kBlockTokens});
  }
}

}  // namespace causeway
