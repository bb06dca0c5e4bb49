// The tensors of the paged KV cache.
#ifndef CAUSEWAY_ENGINE_MODEL_KV_CACHE_H_
#define CAUSEWAY_ENGINE_MODEL_KV_CACHE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "engine/model/context.h"

namespace causeway {

// Keys and values of some layers, [blocks, kv_heads of this rank, kBlockTokens, head_dim] each, with scales where they
// are int8 (KvLayer). Block ids are the same in every layer and on every device; which sequence has which is for others
// to know.
class KvCache {
 public:
  // A new tensor of zeros.
  using Zeros = std::function<at::Tensor(at::IntArrayRef sizes, const at::TensorOptions& options)>;
  // Zeroed, and one stretch of memory, since an allocator may round each tensor up. `int8`: quantized. `zeros` makes
  // it; null: at::zeros does.
  KvCache(const ModelContext& context, const std::vector<int>& layers, int64_t blocks, bool int8 = false,
          const Zeros& zeros = nullptr);

  KvLayer& layer(int index) { return layers_.at(index); }

 private:
  std::map<int, KvLayer> layers_;  // by the layer's index in the model
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_KV_CACHE_H_
