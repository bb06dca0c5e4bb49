// The arguments of attention's kernel from the operation's tensors. This needs torch and no CUDA library.
#ifndef CAUSEWAY_ENGINE_CUDA_ATTENTION_ARGUMENTS_H_
#define CAUSEWAY_ENGINE_CUDA_ATTENTION_ARGUMENTS_H_

#include "engine/cuda/paged_attention.h"
#include "engine/ops/ops.h"

namespace causeway {

// Whether the kernel computes Ops::PagedAttention of these.
bool HasPagedAttentionKernel(const at::Tensor& qkv, int64_t head_dim, const KvLayer& cache);

// All but `output`, `splits` and `partial`. It points into the tensors. REQUIRES: HasPagedAttentionKernel
PagedAttentionArguments AttentionArguments(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                           double scale, int64_t window, const AttentionBatch& batch,
                                           const KvLayer& cache);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_ATTENTION_ARGUMENTS_H_
