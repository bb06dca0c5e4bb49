#include "engine/cuda/kernel_ops.h"

#include <optional>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "engine/cuda/activate.h"
#include "engine/cuda/attention_arguments.h"
#include "engine/cuda/norm.h"
#include "engine/cuda/rotary_cache.h"

namespace causeway {
namespace {

// What kernels take for granted.
void CheckTensor(const char* name, const at::Tensor& tensor, at::ScalarType type, at::IntArrayRef sizes) {
  TORCH_CHECK(tensor.scalar_type() == type && tensor.sizes() == sizes && tensor.is_contiguous(), name, " is ",
              tensor.toString(), " ", tensor.sizes(), ", expected ", type, " ", sizes, ", contiguous");
}

// Of whole rows.
NormArguments NormOf(CudaDType dtype, const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                     const at::Tensor& bias, const at::Tensor& y, double eps) {
  const int64_t width = x.size(1);
  CheckTensor("x", x, x.scalar_type(), {x.size(0), width});
  CheckTensor("the norm's weight", weight, x.scalar_type(), {width});
  NormArguments a{};
  a.dtype = dtype;
  a.x = x.const_data_ptr();
  if (residual.defined()) {
    CheckTensor("the residual", residual, x.scalar_type(), x.sizes());
    a.residual = residual.mutable_data_ptr();
  }
  a.weight = weight.const_data_ptr();
  if (bias.defined()) {
    CheckTensor("the norm's bias", bias, x.scalar_type(), {width});
    a.bias = bias.const_data_ptr();
  }
  a.y = y.mutable_data_ptr();
  a.stride = width;
  a.rows = static_cast<int>(x.size(0));
  a.groups = 1;
  a.width = static_cast<int>(width);
  a.eps = static_cast<float>(eps);
  return a;
}

}  // namespace

std::optional<CudaDType> KernelOps::TypeOf(const at::Tensor& tensor) const {
  if (tensor.device().type() != kind_) return std::nullopt;
  switch (tensor.scalar_type()) {
    case at::kFloat: return CudaDType::kF32;
    case at::kBFloat16: return CudaDType::kBF16;
    case at::kHalf: return CudaDType::kF16;
    default: return std::nullopt;
  }
}

at::Tensor KernelOps::RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) {
  const std::optional<CudaDType> dtype = TypeOf(x);
  if (!dtype.has_value()) return ReferenceOps::RmsNorm(x, residual, weight, eps);
  at::Tensor y = at::empty(x.sizes(), x.options());
  Check(LaunchNorm(NormOf(*dtype, x, residual, weight, at::Tensor(), y, eps), Stream()));
  return y;
}

at::Tensor KernelOps::LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                const at::Tensor& bias, double eps) {
  const std::optional<CudaDType> dtype = TypeOf(x);
  if (!dtype.has_value()) return ReferenceOps::LayerNorm(x, residual, weight, bias, eps);
  at::Tensor y = at::empty(x.sizes(), x.options());
  NormArguments a = NormOf(*dtype, x, residual, weight, bias, y, eps);
  a.layer = true;
  Check(LaunchNorm(a, Stream()));
  return y;
}

void KernelOps::NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                            double eps) {
  const std::optional<CudaDType> dtype = TypeOf(x);
  if (!dtype.has_value()) return ReferenceOps::NormColumns(x, first, groups, width, weight, eps);
  CheckTensor("x", x, x.scalar_type(), {x.size(0), x.size(1)});
  CheckTensor("the norm's weight", weight, x.scalar_type(), {width});
  TORCH_CHECK(first >= 0 && first + groups * width <= x.size(1), "norm of columns: x has shape ", x.sizes(),
              ", asked for ", groups, " runs of ", width, " from column ", first);
  NormArguments a{};
  a.dtype = *dtype;
  a.y = static_cast<char*>(x.mutable_data_ptr()) + first * static_cast<int64_t>(x.element_size());
  a.x = a.y;
  a.weight = weight.const_data_ptr();
  a.stride = x.size(1);
  a.rows = static_cast<int>(x.size(0));
  a.groups = static_cast<int>(groups);
  a.width = static_cast<int>(width);
  a.eps = static_cast<float>(eps);
  a.rounded_first = true;
  Check(LaunchNorm(a, Stream()));
}

void KernelOps::RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                               int64_t kv_heads, int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) {
  const std::optional<CudaDType> dtype = TypeOf(qkv);
  if (!dtype.has_value()) return ReferenceOps::RotaryAndCache(qkv, cos, sin, heads, kv_heads, head_dim, batch, cache);
  const int64_t rows = qkv.size(0), blocks = cache.keys.size(0);
  const at::ScalarType stored = cache.quantized() ? at::kChar : qkv.scalar_type();
  CheckTensor("qkv", qkv, qkv.scalar_type(), {rows, (heads + 2 * kv_heads) * head_dim});
  CheckTensor("positions", batch.positions, at::kLong, {rows});
  CheckTensor("slots", batch.slots, at::kLong, {rows});
  CheckTensor("the cache's keys", cache.keys, stored, {blocks, kv_heads, kBlockTokens, head_dim});
  CheckTensor("the cache's values", cache.values, stored, cache.keys.sizes());
  RotaryCacheArguments a{};
  a.dtype = *dtype;
  a.qkv = qkv.mutable_data_ptr();
  if (cos.defined()) {
    CheckTensor("cos", cos, at::kFloat, {cos.size(0), cos.size(1)});
    CheckTensor("sin", sin, at::kFloat, cos.sizes());
    a.cos = cos.const_data_ptr<float>();
    a.sin = sin.const_data_ptr<float>();
    a.pairs = static_cast<int>(cos.size(1));
  }
  a.positions = batch.positions.const_data_ptr<int64_t>();
  a.slots = batch.slots.const_data_ptr<int64_t>();
  a.keys = cache.keys.mutable_data_ptr();
  a.values = cache.values.mutable_data_ptr();
  if (cache.quantized()) {
    CheckTensor("the cache's key scales", cache.key_scales, at::kFloat, {blocks, kv_heads, kBlockTokens});
    CheckTensor("the cache's value scales", cache.value_scales, at::kFloat, cache.key_scales.sizes());
    a.key_scales = cache.key_scales.mutable_data_ptr<float>();
    a.value_scales = cache.value_scales.mutable_data_ptr<float>();
  }
  a.rows = static_cast<int>(rows);
  a.heads = static_cast<int>(heads);
  a.kv_heads = static_cast<int>(kv_heads);
  a.head_dim = static_cast<int>(head_dim);
  Check(LaunchRotaryCache(a, Stream()));
}

at::Tensor KernelOps::PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                     double scale, int64_t window, const AttentionBatch& batch, const KvLayer& cache) {
  if (!HasPagedAttentionKernel(qkv, head_dim, cache)) {
    return ReferenceOps::PagedAttention(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
  }
  PagedAttentionArguments a = AttentionArguments(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
  at::Tensor output = at::empty({qkv.size(0), heads * head_dim}, qkv.options());
  a.output = output.data_ptr();
  a.splits = PagedAttentionSplits(a.rows, a.kv_heads, batch.context_max, Multiprocessors(qkv.device()));
  at::Tensor partial;
  if (a.splits > 1) {
    partial = at::empty({PagedAttentionPartialFloats(a.rows, a.heads, a.head_dim, a.splits)},
                        qkv.options().dtype(at::kFloat));
    a.partial = partial.data_ptr<float>();
  }
  // The allocator gives the memory of `partial` to no other stream, so that it may go out of scope while the kernel
  // runs.
  Check(LaunchPagedAttention(a, Stream()));
  return output;
}

at::Tensor KernelOps::Activate(const at::Tensor& x, Activation kind, bool gated) {
  const std::optional<CudaDType> dtype = TypeOf(x);
  if (!dtype.has_value()) return ReferenceOps::Activate(x, kind, gated);
  CheckTensor("x", x, x.scalar_type(), {x.size(0), x.size(1)});
  const int64_t width = gated ? x.size(1) / 2 : x.size(1);
  at::Tensor y = at::empty({x.size(0), width}, x.options());
  Check(LaunchActivate({*dtype, kind, gated, x.const_data_ptr(), y.mutable_data_ptr(), static_cast<int>(x.size(0)),
                        static_cast<int>(width)},
                       Stream()));
  return y;
}

}  // namespace causeway
