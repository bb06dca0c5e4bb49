#include "engine/model/kv_cache.h"

#include <ATen/ops/zeros.h>

namespace causeway {

KvCache::KvCache(const ModelContext& context, const std::vector<int>& layers, int64_t blocks) {
  const at::TensorOptions options = at::TensorOptions(context.dtype).device(context.device);
  const int64_t kv_heads = context.spec.kv_heads / context.group.size;
  for (int layer : layers) {
    KvLayer& tensors = layers_[layer];
    tensors.keys = at::zeros({blocks, kv_heads, kBlockTokens, context.spec.head_dim}, options);
    tensors.values = at::zeros({blocks, kv_heads, kBlockTokens, context.spec.head_dim}, options);
  }
}

}  // namespace causeway
