#include "engine/ops/cpu/cpu_ops.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <omp.h>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "engine/ops/cpu/attention_tasks.h"
#include "engine/ops/cpu/packed_weight.h"
#include "engine/ops/reference.h"

namespace causeway {
namespace {

using cpu::Element;

bool Fused(at::ScalarType dtype) { return dtype == at::kFloat || dtype == at::kBFloat16; }
Element ElementOf(const at::Tensor& t) { return t.scalar_type() == at::kFloat ? Element::kFp32 : Element::kBf16; }

// A tensor's memory as the kernels read it.
const void* Data(const at::Tensor& t, const char* name, at::ScalarType dtype) {
  TORCH_CHECK(t.is_cpu() && t.is_contiguous() && t.scalar_type() == dtype, name, " must be a contiguous ", dtype,
              " tensor on the CPU, not ", t.toString(), " of shape ", t.sizes(), " and strides ", t.strides());
  return t.const_data_ptr();
}
void* MutableData(const at::Tensor& t, const char* name, at::ScalarType dtype) { return const_cast<void*>(Data(t, name, dtype)); }

class CpuOps : public Ops {
 public:
  explicit CpuOps(cpu::Isa isa) : kernels_(cpu::KernelsOf(isa)) {}

  std::unique_ptr<LinearWeight> NewLinear(int64_t out, int64_t in, bool bias, at::ScalarType dtype, at::Device device,
                                          const WeightFormat& format) override {
    TORCH_CHECK(device.is_cpu(), "CpuOps makes weights on the CPU, not on ", device);
    if (!Fused(dtype) || format.kind != WeightKind::kFloat) return reference_.NewLinear(out, in, bias, dtype, device, format);
    return std::make_unique<PackedWeight>(out, in, bias, dtype);
  }

  void SetRows(LinearWeight& weight, int64_t first, const at::Tensor& rows) override {
    auto* packed = dynamic_cast<PackedWeight*>(&weight);
    packed != nullptr ? packed->SetRows(kernels_, first, rows) : reference_.SetRows(weight, first, rows);
  }

  void SetQuantizedRows(LinearWeight& weight, int64_t first, const QuantizedRows& rows) override {
    reference_.SetQuantizedRows(weight, first, rows);
  }
  void SetInputOrder(LinearWeight& weight, const at::Tensor& order) override { reference_.SetInputOrder(weight, order); }

  void SetBias(LinearWeight& weight, int64_t first, const at::Tensor& bias) override {
    auto* packed = dynamic_cast<PackedWeight*>(&weight);
    packed != nullptr ? packed->SetBias(first, bias) : reference_.SetBias(weight, first, bias);
  }

  at::Tensor Linear(const at::Tensor& x, const LinearWeight& weight) override {
    const auto* packed = dynamic_cast<const PackedWeight*>(&weight);
    if (packed == nullptr) return reference_.Linear(x, weight);
    TORCH_CHECK(x.dim() == 2 && x.size(1) == packed->in_features(), "Linear: x has shape ", x.sizes(), ", the weight takes ",
                packed->in_features(), " inputs");
    cpu::LinearArgs args{};
    args.element = packed->element();
    args.x = Data(x, "x", packed->dtype());
    args.panels = packed->panels();
    args.bias = packed->bias();
    args.rows = x.size(0);
    args.in = packed->in_features();
    args.out = packed->out_features();
    at::Tensor y = at::empty({args.rows, args.out}, x.options());
    if (args.rows == 0) return y;
    args.y = y.mutable_data_ptr();
    at::Tensor scratch;
    if (const int64_t bytes = kernels_.linear_scratch_bytes(args); bytes > 0) {
      scratch = at::empty({bytes}, x.options().dtype(at::kByte));
      args.scratch = scratch.mutable_data_ptr();
    }
    kernels_.linear(args);
    return y;
  }

  at::Tensor Embedding(const at::Tensor& ids, const LinearWeight& weight) override {
    const auto* packed = dynamic_cast<const PackedWeight*>(&weight);
    if (packed == nullptr) return reference_.Embedding(ids, weight);
    const int64_t* rows = static_cast<const int64_t*>(Data(ids, "ids", at::kLong));
    const int64_t n = ids.numel(), out = packed->out_features();
    for (int64_t i = 0; i < n; ++i) {
      TORCH_CHECK_INDEX(rows[i] >= 0 && rows[i] < out, "Embedding: id ", rows[i], " is outside a table of ", out, " rows");
    }
    at::Tensor y = at::empty({n, packed->in_features()}, ids.options().dtype(packed->dtype()));
    char* to = static_cast<char*>(y.mutable_data_ptr());
    const int64_t row_bytes = y.size(1) * y.element_size();
#pragma omp parallel for schedule(static) if (n > 1 && n * row_bytes > 32768)
    for (int64_t i = 0; i < n; ++i) packed->CopyRow(rows[i], to + i * row_bytes);
    return y;
  }

  at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) override {
    if (!Fused(x.scalar_type())) return reference_.RmsNorm(x, residual, weight, eps);
    return Norm(kernels_.rms_norm, x, residual, weight, at::Tensor(), eps);
  }

  at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, const at::Tensor& bias,
                       double eps) override {
    if (!Fused(x.scalar_type())) return reference_.LayerNorm(x, residual, weight, bias, eps);
    return Norm(kernels_.layer_norm, x, residual, weight, bias, eps);
  }

  void RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) override {
    if (!Fused(qkv.scalar_type())) return reference_.RotaryAndCache(qkv, cos, sin, heads, kv_heads, head_dim, batch, cache);
    const at::ScalarType dtype = qkv.scalar_type();
    CheckShapes(qkv, heads, kv_heads, head_dim, cache);
    cpu::RotaryArgs args{};
    args.element = ElementOf(qkv);
    args.qkv = MutableData(qkv, "qkv", dtype);
    if (cos.defined()) {
      args.cos = static_cast<const float*>(Data(cos, "cos", at::kFloat));
      args.sin = static_cast<const float*>(Data(sin, "sin", at::kFloat));
      args.rotary_dim = 2 * cos.size(1);
      TORCH_CHECK(args.rotary_dim <= head_dim, "cos has ", cos.size(1), " columns, head_dim is ", head_dim);
    }
    args.positions = static_cast<const int64_t*>(Data(batch.positions, "positions", at::kLong));
    args.slots = static_cast<const int64_t*>(Data(batch.slots, "slots", at::kLong));
    const at::ScalarType stored = cache.quantized() ? at::kChar : dtype;
    args.keys = MutableData(cache.keys, "keys", stored);
    args.values = MutableData(cache.values, "values", stored);
    if (cache.quantized()) {
      args.key_scales = static_cast<float*>(MutableData(cache.key_scales, "key_scales", at::kFloat));
      args.value_scales = static_cast<float*>(MutableData(cache.value_scales, "value_scales", at::kFloat));
    }
    args.rows = qkv.size(0);
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    kernels_.rotary_and_cache(args);
  }

  at::Tensor PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                            int64_t window, const AttentionBatch& batch, const KvLayer& cache) override {
    if (!Fused(qkv.scalar_type())) return reference_.PagedAttention(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
    CheckShapes(qkv, heads, kv_heads, head_dim, cache);
    thread_local cpu::AttentionTasks tasks;  // kept for its memory
    cpu::MakeAttentionTasks(batch.query_start_host, batch.context_lens_host, {heads, kv_heads, window}, omp_get_max_threads(), tasks);
    at::Tensor out = at::empty({qkv.size(0), heads * head_dim}, qkv.options());
    if (tasks.tasks.empty()) return out;
    at::Tensor partials;
    cpu::AttentionArgs args{};
    args.element = ElementOf(qkv);
    args.qkv = Data(qkv, "qkv", qkv.scalar_type());
    args.qkv_stride = qkv.size(1);
    const at::ScalarType stored = cache.quantized() ? at::kChar : qkv.scalar_type();
    args.keys = Data(cache.keys, "keys", stored);
    args.values = Data(cache.values, "values", stored);
    if (cache.quantized()) {
      args.key_scales = static_cast<const float*>(Data(cache.key_scales, "key_scales", at::kFloat));
      args.value_scales = static_cast<const float*>(Data(cache.value_scales, "value_scales", at::kFloat));
    }
    args.out = out.mutable_data_ptr();
    args.block_tables = static_cast<const int32_t*>(Data(batch.block_tables, "block_tables", at::kInt));
    args.table_stride = batch.block_tables.size(1);
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.window = window;
    args.scale = static_cast<float>(scale);
    args.tasks = tasks.tasks.data();
    args.task_count = static_cast<int64_t>(tasks.tasks.size());
    args.merges = tasks.merges.data();
    args.merge_count = static_cast<int64_t>(tasks.merges.size());
    args.row_max = tasks.row_max;
    args.parallel = tasks.pairs * head_dim > 32768;
    if (tasks.partial_count > 0) {
      partials = at::empty({tasks.partial_count, cpu::PartialFloats(heads / kv_heads, head_dim)}, qkv.options().dtype(at::kFloat));
      args.partials = static_cast<float*>(partials.mutable_data_ptr());
    }
    kernels_.attention(args);
    return out;
  }

  at::Tensor Activate(const at::Tensor& x, Activation kind, bool gated) override {
    if (!Fused(x.scalar_type())) return reference_.Activate(x, kind, gated);
    const int64_t width = gated ? x.size(1) / 2 : x.size(1);
    at::Tensor y = at::empty({x.size(0), width}, x.options());
    kernels_.activate({ElementOf(x), static_cast<int>(kind), gated, Data(x, "x", x.scalar_type()), y.mutable_data_ptr(), x.size(0), width});
    return y;
  }

  std::vector<SampleOutput> Sample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override {
    return reference_.Sample(logits, rows);
  }

 private:
  at::Tensor Norm(void (*kernel)(const cpu::NormArgs&), const at::Tensor& x, const at::Tensor& residual,
                  const at::Tensor& weight, const at::Tensor& bias, double eps) {
    const at::ScalarType dtype = x.scalar_type();
    TORCH_CHECK(x.dim() == 2 && weight.numel() == x.size(1), "norm: x has shape ", x.sizes(), ", the weight ", weight.sizes());
    TORCH_CHECK(!residual.defined() || residual.sizes() == x.sizes(), "norm: x has shape ", x.sizes(), ", the residual ", residual.sizes());
    at::Tensor y = at::empty({x.size(0), x.size(1)}, x.options());
    cpu::NormArgs args{};
    args.element = ElementOf(x);
    args.x = Data(x, "x", dtype);
    args.residual = residual.defined() ? MutableData(residual, "residual", dtype) : nullptr;
    args.weight = Data(weight, "weight", dtype);
    args.bias = bias.defined() ? Data(bias, "bias", dtype) : nullptr;
    args.y = y.mutable_data_ptr();
    args.rows = x.size(0);
    args.width = x.size(1);
    args.eps = static_cast<float>(eps);
    kernel(args);
    return y;
  }

  static void CheckShapes(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, const KvLayer& cache) {
    TORCH_CHECK(heads % kv_heads == 0 && qkv.dim() == 2 && qkv.size(1) == (heads + 2 * kv_heads) * head_dim, "qkv has shape ",
                qkv.sizes(), ", expected (", heads, " + 2 * ", kv_heads, ") * ", head_dim, " columns");
    const std::vector<int64_t> expected = {cache.keys.size(0), kv_heads, kBlockTokens, head_dim};
    TORCH_CHECK(cache.keys.sizes() == expected && cache.values.sizes() == expected, "the cache's keys have shape ",
                cache.keys.sizes(), " and its values ", cache.values.sizes(), ", expected ", expected);
    if (!cache.quantized()) return;
    const at::IntArrayRef cells(expected.data(), 3);
    TORCH_CHECK(cache.key_scales.sizes() == cells && cache.value_scales.sizes() == cells, "the cache's key scales have shape ",
                cache.key_scales.sizes(), " and its value scales ", cache.value_scales.sizes(), ", expected ", cells);
  }

  const cpu::Kernels& kernels_;
  ReferenceOps reference_;
};

}  // namespace

std::unique_ptr<Ops> MakeCpuOps(cpu::Isa isa) { return std::make_unique<CpuOps>(isa); }
std::unique_ptr<Ops> MakeCpuOps() { return MakeCpuOps(cpu::SupportedIsas().front()); }

}  // namespace causeway
