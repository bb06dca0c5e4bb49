// Operations on a CUDA device: ATen's, with kernels of our own where they pay.
#ifndef CAUSEWAY_ENGINE_CUDA_CUDA_OPS_H_
#define CAUSEWAY_ENGINE_CUDA_CUDA_OPS_H_

#include "engine/ops/reference.h"

namespace causeway {

class CudaOps final : public ReferenceOps {
 public:
  at::Tensor PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                            int64_t window, const AttentionBatch& batch, const KvLayer& cache) override;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_CUDA_OPS_H_
