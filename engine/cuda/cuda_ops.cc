#include "engine/cuda/cuda_ops.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "engine/cuda/attention_arguments.h"

namespace causeway {
namespace {

int Multiprocessors(int device) {
  int count = 1;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace

at::Tensor CudaOps::PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                   double scale, int64_t window, const AttentionBatch& batch, const KvLayer& cache) {
  if (!HasPagedAttentionKernel(qkv, head_dim, cache)) {
    return ReferenceOps::PagedAttention(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
  }
  PagedAttentionArguments a = AttentionArguments(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
  at::Tensor output = at::empty({qkv.size(0), heads * head_dim}, qkv.options());
  a.output = output.data_ptr();
  a.splits = PagedAttentionSplits(a.rows, a.kv_heads, batch.context_max, Multiprocessors(qkv.get_device()));
  at::Tensor partial;
  if (a.splits > 1) {
    partial = at::empty({PagedAttentionPartialFloats(a.rows, a.heads, a.head_dim, a.splits)},
                        qkv.options().dtype(at::kFloat));
    a.partial = partial.data_ptr<float>();
  }
  // The allocator gives the memory of `partial` to no other stream, so that it may go out of scope while the kernel
  // runs.
  C10_CUDA_CHECK(LaunchPagedAttention(a, c10::cuda::getCurrentCUDAStream().stream()));
  return output;
}

}  // namespace causeway
