#include "engine/ops/cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "engine/ops/cpu/attention_tasks.h"
#include "engine/ops/cpu/expert_groups.h"
#include "engine/ops/cpu/linear_runs.h"
#include "engine/ops/cpu/packed_weight.h"
#include "engine/ops/cpu/quantized_weight.h"
#include "engine/ops/cpu/tensor_data.h"
#include "engine/ops/reference.h"
#include "engine/ops/rehearsal.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

using cpu::Data;
using cpu::Element;
using cpu::ForRows;
using cpu::MutableData;

// Whether there are kernels for activations of this dtype.
bool Fused(at::ScalarType dtype) { return dtype == at::kFloat || dtype == at::kBFloat16; }
Element ElementOf(const at::Tensor& t) { return cpu::ElementOf(t.scalar_type()); }

// The dtype of a tensor that stands beside activations of `dtype`: of theirs, or fp16 where these are fp32.
at::ScalarType Beside(at::ScalarType dtype, const at::Tensor& stored) {
  return dtype == at::kFloat && stored.scalar_type() == at::kHalf ? at::kHalf : dtype;
}
// What is cached without scales beside activations of `dtype`.
at::ScalarType Cached(at::ScalarType dtype, const KvLayer& cache) {
  return cache.quantized() ? dtype : Beside(dtype, cache.keys);
}

class CpuOps : public Ops {
 public:
  explicit CpuOps(cpu::Isa isa) : kernels_(cpu::KernelsOf(isa)) {}

  at::ScalarType Activations(at::ScalarType dtype) const override { return cpu::ActivationsBeside(dtype); }

  std::unique_ptr<LinearWeight> NewLinear(int64_t out, int64_t in, bool bias, at::ScalarType dtype, at::Device device,
                                          const WeightFormat& format) override {
    TORCH_CHECK(device.is_cpu(), "CpuOps makes weights on the CPU, not on ", device);
    if (!cpu::HasElement(dtype)) return reference_.NewLinear(out, in, bias, dtype, device, format);
    if (format.kind != WeightKind::kFloat)
      return std::make_unique<QuantizedWeight>(kernels_, out, in, bias, dtype, format);
    return std::make_unique<PackedWeight>(kernels_, out, in, bias, dtype);
  }

  at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) override {
    if (!Fused(x.scalar_type())) return reference_.RmsNorm(x, residual, weight, eps);
    return Norm(kernels_.rms_norm, x, residual, weight, at::Tensor(), eps);
  }

  at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                       const at::Tensor& bias, double eps) override {
    if (!Fused(x.scalar_type())) return reference_.LayerNorm(x, residual, weight, bias, eps);
    return Norm(kernels_.layer_norm, x, residual, weight, bias, eps);
  }

  void NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                   double eps) override {
    const at::ScalarType dtype = x.scalar_type();
    if (!Fused(dtype)) return reference_.NormColumns(x, first, groups, width, weight, eps);
    TORCH_CHECK(x.dim() == 2 && first >= 0 && first + groups * width <= x.size(1) && weight.numel() == width,
                "norm of columns: x has shape ", x.sizes(), ", the weight ", weight.sizes(), ", asked for ", groups,
                " runs of ", width, " from column ", first);
    cpu::NormColumnsArgs args{};
    args.element = ElementOf(weight);
    args.x = static_cast<char*>(MutableData(x, "x", dtype)) + first * x.element_size();
    args.weight = Data(weight, "weight", Beside(dtype, weight));
    args.rows = x.size(0);
    args.stride = x.size(1);
    args.groups = groups;
    args.width = width;
    args.eps = static_cast<float>(eps);
    kernels_.norm_columns(args);
  }

  void RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) override {
    if (!Fused(qkv.scalar_type()))
      return reference_.RotaryAndCache(qkv, cos, sin, heads, kv_heads, head_dim, batch, cache);
    const at::ScalarType dtype = qkv.scalar_type();
    CheckShapes(qkv, heads, kv_heads, head_dim, cache);
    cpu::RotaryArgs args{};
    args.element = cpu::ElementOf(Cached(dtype, cache));
    args.qkv = MutableData(qkv, "qkv", dtype);
    if (cos.defined()) {
      args.cos = static_cast<const float*>(Data(cos, "cos", at::kFloat));
      args.sin = static_cast<const float*>(Data(sin, "sin", at::kFloat));
      args.rotary_dim = 2 * cos.size(1);
      TORCH_CHECK(args.rotary_dim <= head_dim, "cos has ", cos.size(1), " columns, head_dim is ", head_dim);
    }
    args.positions = static_cast<const int64_t*>(Data(batch.positions, "positions", at::kLong));
    args.slots = static_cast<const int64_t*>(Data(batch.slots, "slots", at::kLong));
    const at::ScalarType stored = cache.quantized() ? at::kChar : Cached(dtype, cache);
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
    if (!Fused(qkv.scalar_type()))
      return reference_.PagedAttention(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
    CheckShapes(qkv, heads, kv_heads, head_dim, cache);
    thread_local cpu::AttentionTasks tasks;  // kept for its memory
    cpu::MakeAttentionTasks(batch.query_start_host, batch.context_lens_host, {heads, kv_heads, window}, TeamThreads(),
                            tasks);
    at::Tensor out = at::empty({qkv.size(0), heads * head_dim}, qkv.options());
    if (tasks.tasks.empty()) return out;
    at::Tensor partials;
    cpu::AttentionArgs args{};
    args.element = cpu::ElementOf(Cached(qkv.scalar_type(), cache));
    args.qkv = Data(qkv, "qkv", qkv.scalar_type());
    args.qkv_stride = qkv.size(1);
    const at::ScalarType stored = cache.quantized() ? at::kChar : Cached(qkv.scalar_type(), cache);
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
      partials = at::empty({tasks.partial_count, cpu::PartialFloats(heads / kv_heads, head_dim)},
                           qkv.options().dtype(at::kFloat));
      args.partials = static_cast<float*>(partials.mutable_data_ptr());
    }
    if (Rehearsal::Now()) {  // a task has a few rows or a range of context
      out.zero_();
      args.task_count = Rehearsal::Rows(args.task_count);
      args.merge_count = 0;
    }
    kernels_.attention(args);
    return out;
  }

  Routing Route(const at::Tensor& logits, const at::Tensor& correction, const RoutingRule& rule) override {
    if (!Fused(logits.scalar_type())) return reference_.Route(logits, correction, rule);
    cpu::RouteArgs args{};
    args.element = ElementOf(logits);
    args.logits = Data(logits, "logits", logits.scalar_type());
    args.tokens = logits.size(0);
    args.experts = logits.size(1);
    args.count = rule.experts_per_token;
    TORCH_CHECK(args.count >= 1 && args.count <= args.experts, "Route: ", args.count, " of ", args.experts,
                " experts were asked for");
    if (correction.defined()) {
      args.correction = static_cast<const float*>(Data(correction, "correction", at::kFloat));
      TORCH_CHECK(correction.numel() == args.experts, "Route: ", correction.numel(), " corrections for ", args.experts,
                  " experts");
    }
    Routing routing{at::empty({args.tokens, args.count}, logits.options().dtype(at::kInt)),
                    at::empty({args.tokens, args.count}, logits.options().dtype(at::kFloat))};
    args.chosen = static_cast<int32_t*>(routing.experts.mutable_data_ptr());
    args.weights = static_cast<float*>(routing.weights.mutable_data_ptr());
    args.sigmoid = rule.score == RouterScore::kSigmoid;
    args.normalize = rule.normalize;
    kernels_.route(args);
    return routing;
  }

  at::Tensor Experts(const at::Tensor& x, const Routing& routing, const std::vector<ExpertWeights>& experts,
                     Activation activation, std::vector<int32_t>* counts, ExpertFetcher* fetcher) override {
    if (!Fused(x.scalar_type())) return reference_.Experts(x, routing, experts, activation, counts, fetcher);
    const int64_t tokens = x.size(0), width = x.size(1), terms = routing.experts.size(1);
    const char* from = static_cast<const char*>(Data(x, "x", x.scalar_type()));
    TORCH_CHECK(routing.experts.size(0) == tokens && routing.weights.sizes() == routing.experts.sizes(),
                "Experts: routing of shapes ", routing.experts.sizes(), " and ", routing.weights.sizes(),
                " for x of shape ", x.sizes());
    thread_local cpu::ExpertGroups groups;  // kept for its memory
    cpu::GroupByExpert(static_cast<const int32_t*>(Data(routing.experts, "routing.experts", at::kInt)), tokens, terms,
                       static_cast<int64_t>(experts.size()), groups);
    std::vector<ExpertFetcher::Use> chosen;
    std::vector<cpu::LinearRun> ups, downs;
    if (counts != nullptr) counts->resize(experts.size());
    for (size_t e = 0; e < experts.size(); ++e) {
      const int64_t first = groups.first[e], count = groups.first[e + 1] - first;
      if (counts != nullptr) (*counts)[e] = static_cast<int32_t>(count);
      if (count == 0) continue;
      if (fetcher != nullptr) chosen.push_back({static_cast<int>(e), count});
      ups.push_back({experts[e].up, first, count});
      downs.push_back({experts[e].down, first, count});
    }
    at::Tensor y = at::empty({tokens, width}, x.options());
    if (ups.empty()) return y;

    const int64_t rows = tokens * terms, row_bytes = width * x.element_size();
    const int32_t* token_of = groups.token_of.data();          // each thread has a `groups` of its own
    const auto gathered = [&](int64_t first, int64_t count) {  // rows by expert
      at::Tensor in = at::empty({count, width}, x.options());
      char* to = static_cast<char*>(in.mutable_data_ptr());
      ForRows(count, row_bytes, 131072,
              [&](int64_t r) { std::memcpy(to + r * row_bytes, from + token_of[first + r] * row_bytes, row_bytes); });
      return in;
    };
    at::Tensor down;
    if (fetcher == nullptr) {
      at::Tensor in = gathered(0, rows);
      at::Tensor up = at::empty({rows, ups.front().weight->out_features()}, x.options());  // [rows, 2 * intermediate]
      LinearRuns(in, up, ups);
      in.reset();
      const at::Tensor activated = Activate(up, activation, /*gated=*/true);  // [rows, intermediate]
      up.reset();
      down = at::empty({rows, width}, x.options());
      LinearRuns(activated, down, downs);
    } else {
      down = at::empty({rows, width}, x.options());
      fetcher->Begin(chosen);
      for (size_t i = 0; i < chosen.size(); ++i) {
        const FetchedExpert fetched(*fetcher, chosen[i].expert);
        at::Tensor up = fetched.weights.up->Forward(gathered(ups[i].first, ups[i].rows));
        const at::Tensor activated = Activate(up, activation, /*gated=*/true);
        up.reset();
        at::Tensor y_rows = down.narrow(0, downs[i].first, downs[i].rows);
        LinearRuns(activated, y_rows, {{fetched.weights.down, 0, downs[i].rows}});
      }
    }

    cpu::CombineArgs args{};
    args.element = ElementOf(x);
    args.x = down.const_data_ptr();
    args.rows = groups.row_of.data();
    args.weights = static_cast<const float*>(Data(routing.weights, "routing.weights", at::kFloat));
    args.y = y.mutable_data_ptr();
    args.tokens = tokens;
    args.terms = terms;
    args.width = width;
    kernels_.combine(args);
    return y;
  }

  at::Tensor SquareSums(const at::Tensor& x, const std::vector<int64_t>& widths) override {
    return reference_.SquareSums(x, widths);
  }
  void ScaleColumns(at::Tensor& x, int64_t first, const at::Tensor& weight, const at::Tensor& squares, int64_t run,
                    int64_t all, double eps) override {
    reference_.ScaleColumns(x, first, weight, squares, run, all, eps);
  }
  void Add(at::Tensor& x, const at::Tensor& y) override { reference_.Add(x, y); }
  void ZeroRows(at::Tensor& x, const at::Tensor& rows) override { reference_.ZeroRows(x, rows); }
  at::Tensor SelectRows(const at::Tensor& x, const at::Tensor& rows) override { return reference_.SelectRows(x, rows); }

  at::Tensor Activate(const at::Tensor& x, Activation kind, bool gated) override {
    if (!Fused(x.scalar_type())) return reference_.Activate(x, kind, gated);
    const int64_t width = gated ? x.size(1) / 2 : x.size(1);
    at::Tensor y = at::empty({x.size(0), width}, x.options());
    kernels_.activate({ElementOf(x), static_cast<int>(kind), gated, Data(x, "x", x.scalar_type()), y.mutable_data_ptr(),
                       x.size(0), width});
    return y;
  }

  std::vector<SampleOutput> Sample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override {
    return reference_.Sample(logits, rows);
  }
  StartedSample StartSample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override {
    return reference_.StartSample(logits, rows);
  }
  void CopyTokens(at::Tensor& to, const at::Tensor& to_index, const at::Tensor& from,
                  const at::Tensor& from_index) override {
    reference_.CopyTokens(to, to_index, from, from_index);
  }
  at::Tensor Candidates(const at::Tensor& logits, int64_t count, int64_t first) override {
    return reference_.Candidates(logits, count, first);
  }

 private:
  // Computes runs that share x and y, all at once where one kernel knows all their weights. x and y are contiguous and
  // of one dtype.
  void LinearRuns(const at::Tensor& x, at::Tensor& y, const std::vector<cpu::LinearRun>& runs) {
    for (const cpu::LinearRun& run : runs) {
      TORCH_CHECK(run.weight->in_features() == x.size(1) && run.weight->out_features() == y.size(1), "a linear of ",
                  run.weight->out_features(), " x ", run.weight->in_features(), " cannot make y of shape ", y.sizes(),
                  " from x of shape ", x.sizes());
    }
    if (cpu::RunTogether(kernels_, x, y, runs)) return;
    for (const cpu::LinearRun& run : runs)
      y.narrow(0, run.first, run.rows).copy_(run.weight->Forward(x.narrow(0, run.first, run.rows)));
  }

  at::Tensor Norm(void (*kernel)(const cpu::NormArgs&), const at::Tensor& x, const at::Tensor& residual,
                  const at::Tensor& weight, const at::Tensor& bias, double eps) {
    const at::ScalarType dtype = x.scalar_type();
    TORCH_CHECK(x.dim() == 2 && weight.numel() == x.size(1), "norm: x has shape ", x.sizes(), ", the weight ",
                weight.sizes());
    TORCH_CHECK(!residual.defined() || residual.sizes() == x.sizes(), "norm: x has shape ", x.sizes(),
                ", the residual ", residual.sizes());
    at::Tensor y = at::empty({x.size(0), x.size(1)}, x.options());
    cpu::NormArgs args{};
    args.element = ElementOf(weight);
    args.x = Data(x, "x", dtype);
    args.residual = residual.defined() ? MutableData(residual, "residual", dtype) : nullptr;
    args.weight = Data(weight, "weight", Beside(dtype, weight));
    args.bias = bias.defined() ? Data(bias, "bias", weight.scalar_type()) : nullptr;
    args.y = y.mutable_data_ptr();
    args.rows = x.size(0);
    args.width = x.size(1);
    args.eps = static_cast<float>(eps);
    kernel(args);
    return y;
  }

  static void CheckShapes(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                          const KvLayer& cache) {
    TORCH_CHECK(heads % kv_heads == 0 && qkv.dim() == 2 && qkv.size(1) == (heads + 2 * kv_heads) * head_dim,
                "qkv has shape ", qkv.sizes(), ", expected (", heads, " + 2 * ", kv_heads, ") * ", head_dim,
                " columns");
    const std::vector<int64_t> expected = {cache.keys.size(0), kv_heads, kBlockTokens, head_dim};
    TORCH_CHECK(cache.keys.sizes() == expected && cache.values.sizes() == expected, "the cache's keys have shape ",
                cache.keys.sizes(), " and its values ", cache.values.sizes(), ", expected ", at::IntArrayRef(expected));
    if (!cache.quantized()) return;
    const at::IntArrayRef cells(expected.data(), 3);
    TORCH_CHECK(cache.key_scales.sizes() == cells && cache.value_scales.sizes() == cells,
                "the cache's key scales have shape ", cache.key_scales.sizes(), " and its value scales ",
                cache.value_scales.sizes(), ", expected ", cells);
  }

  const cpu::Kernels& kernels_;
  ReferenceOps reference_;
};

}  // namespace

std::unique_ptr<Ops> MakeCpuOps(cpu::Isa isa) { return std::make_unique<CpuOps>(isa); }
std::unique_ptr<Ops> MakeCpuOps() { return MakeCpuOps(cpu::SupportedIsas().front()); }

}  // namespace causeway
