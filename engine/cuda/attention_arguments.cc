#include "engine/cuda/attention_arguments.h"

namespace causeway {

bool HasPagedAttentionKernel(const at::Tensor& qkv, int64_t head_dim, const KvLayer& cache) {
  const at::ScalarType type = qkv.scalar_type();
  const bool known = type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
  return known && head_dim <= kCudaHeadDimMax && cache.keys.scalar_type() == (cache.quantized() ? at::kChar : type);
}

PagedAttentionArguments AttentionArguments(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                           double scale, int64_t window, const AttentionBatch& batch,
                                           const KvLayer& cache) {
  const at::ScalarType type = qkv.scalar_type();
  PagedAttentionArguments a{};
  a.dtype = type == at::kFloat ? CudaDType::kF32 : type == at::kBFloat16 ? CudaDType::kBF16 : CudaDType::kF16;
  a.rows = static_cast<int>(qkv.size(0));
  a.sequences = static_cast<int>(batch.context_lens.size(0));
  a.heads = static_cast<int>(heads);
  a.kv_heads = static_cast<int>(kv_heads);
  a.head_dim = static_cast<int>(head_dim);
  a.window = static_cast<int>(window);
  a.scale = static_cast<float>(scale);
  a.queries = qkv.const_data_ptr();
  a.query_stride = qkv.stride(0);
  a.keys = cache.keys.const_data_ptr();
  a.values = cache.values.const_data_ptr();
  if (cache.quantized()) {
    a.key_scales = cache.key_scales.const_data_ptr<float>();
    a.value_scales = cache.value_scales.const_data_ptr<float>();
  }
  a.positions = batch.positions.const_data_ptr<int64_t>();
  a.block_tables = batch.block_tables.const_data_ptr<int32_t>();
  a.block_table_stride = static_cast<int>(batch.block_tables.size(1));
  a.query_start = batch.query_start.const_data_ptr<int32_t>();
  return a;
}

}  // namespace causeway
