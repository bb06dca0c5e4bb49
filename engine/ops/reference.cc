#include "engine/ops/reference.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/IListRef.h>
#include <ATen/core/List.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logical_or.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "engine/ops/compact_weight.h"

namespace causeway {
namespace {

class PlainWeight final : public LinearWeight {
 public:
  PlainWeight(at::Tensor weight, at::Tensor bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}
  int64_t out_features() const override { return weight_.size(0); }
  int64_t in_features() const override { return weight_.size(1); }
  int64_t bytes() const override { return weight_.nbytes() + (bias_.defined() ? bias_.nbytes() : 0); }
  at::Device device() const override { return weight_.device(); }
  bool as_stored() const override { return true; }
  std::vector<at::Tensor> Tensors() const override {
    if (bias_.defined()) return {weight_, bias_};
    return {weight_};
  }

  void SetRows(int64_t first, const at::Tensor& rows) override {
    c10::InferenceMode guard;  // loader threads don't hold one
    weight_.narrow(0, first, rows.size(0)).copy_(rows);
  }
  void SetBias(int64_t first, const at::Tensor& bias) override {
    TORCH_CHECK(bias_.defined(), "SetBias on a weight made without a bias");
    c10::InferenceMode guard;
    bias_.narrow(0, first, bias.size(0)).copy_(bias);
  }
  at::Tensor Forward(const at::Tensor& x) const override {
    if (device() != x.device()) return Forward(x.to(device())).to(x.device());
    return at::linear(x, weight_, bias_.defined() ? std::optional<at::Tensor>(bias_) : std::nullopt);
  }
  at::Tensor Lookup(const at::Tensor& ids) const override { return at::embedding(weight_, ids); }

 private:
  at::Tensor weight_, bias_;  // [out, in]; [out] or undefined
};

// Adds x to the residual when there is one, and returns what is to be normed.
const at::Tensor& Summed(const at::Tensor& x, const at::Tensor& residual) {
  if (!residual.defined()) return x;
  residual.add_(x);
  return residual;
}

// x [tokens, heads, head_dim] with the first rotary dimensions of each head rotated, as pairs (i, i + rotary / 2).
at::Tensor Rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = cos.size(-1);
  const at::Tensor a = x.narrow(-1, 0, half).to(at::kFloat), b = x.narrow(-1, half, half).to(at::kFloat);
  const at::Tensor rotated = at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(x.scalar_type());
  return at::cat({rotated, x.narrow(-1, 2 * half, x.size(-1) - 2 * half)}, -1);
}

// The cached rows of a sequence, [kv_heads, context, head_dim] in fp32. `scales` is undefined or as in KvLayer.
at::Tensor Gather(const at::Tensor& cache, const at::Tensor& scales, const at::Tensor& blocks, int64_t context) {
  const at::Tensor rows = cache.index_select(0, blocks).transpose(0, 1);  // [kv_heads, blocks, kBlockTokens, head_dim]
  at::Tensor gathered = rows.reshape({rows.size(0), -1, rows.size(-1)}).narrow(1, 0, context).to(at::kFloat);
  if (scales.defined()) {
    const at::Tensor row_scales = scales.index_select(0, blocks).transpose(0, 1);  // [kv_heads, blocks, kBlockTokens]
    gathered.mul_(row_scales.reshape({row_scales.size(0), -1, 1}).narrow(1, 0, context));
  }
  return gathered;
}

// Writes rows [tokens, kv_heads, head_dim] to their places: blocks and offsets are [tokens].
void WriteCache(const at::Tensor& cache, const at::Tensor& scales, const at::Tensor& rows, const at::Tensor& blocks,
                const at::Tensor& offsets) {
  // Indexing dimensions 0 and 2 around a slice gives [tokens, kv_heads, ...].
  if (!scales.defined()) {
    cache.transpose(1, 2).index_put_({blocks, offsets}, rows);
    return;
  }
  at::Tensor wide = rows.to(at::kFloat);
  const at::Tensor largest = wide.abs().amax(-1);  // [tokens, kv_heads]
  // A row of zeros has the scale 0; its integers are 0 whatever they are multiplied with.
  const at::Tensor inverse = largest.reciprocal().mul_(kKvInt8Max).masked_fill_(largest < kKvVanishing, 0);
  wide = wide.mul(inverse.unsqueeze(-1)).round_();
  cache.transpose(1, 2).index_put_({blocks, offsets}, wide.to(at::kChar));
  scales.transpose(1, 2).index_put_({blocks, offsets}, largest / kKvInt8Max);
}

}  // namespace

std::unique_ptr<LinearWeight> ReferenceOps::NewLinear(int64_t out, int64_t in, bool bias, at::ScalarType dtype,
                                                      at::Device device, const WeightFormat& format) {
  if (format.kind != WeightKind::kFloat) return std::make_unique<CompactWeight>(out, in, bias, dtype, device, format);
  const auto options = at::TensorOptions().dtype(dtype).device(device);
  return std::make_unique<PlainWeight>(at::zeros({out, in}, options), bias ? at::zeros({out}, options) : at::Tensor());
}

at::Tensor ReferenceOps::RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                 double eps) {
  const at::Tensor sum = Summed(x, residual).to(at::kFloat);
  const at::Tensor scale = at::rsqrt(sum.square().mean(-1, /*keepdim=*/true) + eps);
  return (sum * scale * weight.to(at::kFloat)).to(x.scalar_type());
}

at::Tensor ReferenceOps::LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                   const at::Tensor& bias, double eps) {
  const at::Tensor sum = Summed(x, residual).to(at::kFloat);
  const std::optional<at::Tensor> shift =
      bias.defined() ? std::optional<at::Tensor>(bias.to(at::kFloat)) : std::nullopt;
  return std::get<0>(at::native_layer_norm(sum, {sum.size(-1)}, weight.to(at::kFloat), shift, eps)).to(x.scalar_type());
}

void ReferenceOps::NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                               double eps) {
  at::Tensor runs = x.narrow(1, first, groups * width).view({x.size(0), groups, width});
  const at::Tensor wide = runs.to(at::kFloat);
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  runs.copy_((wide * scale).to(x.scalar_type()) * weight);
}

at::Tensor ReferenceOps::SquareSums(const at::Tensor& x, const std::vector<int64_t>& widths) {
  at::Tensor sums = at::empty({x.size(0), static_cast<int64_t>(widths.size())}, x.options().dtype(at::kFloat));
  int64_t first = 0;
  for (size_t run = 0; run < widths.size(); ++run) {
    sums.select(1, static_cast<int64_t>(run)).copy_(x.narrow(1, first, widths[run]).to(at::kFloat).square().sum(-1));
    first += widths[run];
  }
  return sums;
}

void ReferenceOps::ScaleColumns(at::Tensor& x, int64_t first, const at::Tensor& weight, const at::Tensor& squares,
                                int64_t run, int64_t all, double eps) {
  at::Tensor columns = x.narrow(1, first, weight.size(0));
  const at::Tensor scale = at::rsqrt(squares.narrow(1, run, 1) / static_cast<double>(all) + eps);
  columns.copy_((columns.to(at::kFloat) * scale).to(x.scalar_type()) * weight);
}

void ReferenceOps::RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                                  int64_t kv_heads, int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) {
  const int64_t tokens = qkv.size(0);
  const at::Tensor rows = qkv.view({tokens, heads + 2 * kv_heads, head_dim});
  at::Tensor queries = rows.narrow(1, 0, heads), keys = rows.narrow(1, heads, kv_heads);
  const at::Tensor values = rows.narrow(1, heads + kv_heads, kv_heads);
  if (cos.defined()) {
    const at::Tensor row_cos = cos.index_select(0, batch.positions).unsqueeze(1);  // [tokens, 1, rotary_dim / 2]
    const at::Tensor row_sin = sin.index_select(0, batch.positions).unsqueeze(1);
    queries.copy_(Rotated(queries, row_cos, row_sin));
    keys = Rotated(keys, row_cos, row_sin);
  }
  const at::Tensor blocks = batch.slots.div(kBlockTokens, "floor"), offsets = batch.slots.remainder(kBlockTokens);
  WriteCache(cache.keys, cache.key_scales, keys, blocks, offsets);
  WriteCache(cache.values, cache.value_scales, values, blocks, offsets);
}

at::Tensor ReferenceOps::PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                        double scale, int64_t window, const AttentionBatch& batch,
                                        const KvLayer& cache) {
  const int64_t tokens = qkv.size(0), group = heads / kv_heads;
  const at::Tensor out = at::empty({tokens, heads * head_dim}, qkv.options());
  const at::Tensor queries = qkv.narrow(1, 0, heads * head_dim).view({tokens, kv_heads, group, head_dim});
  for (size_t s = 0; s < batch.context_lens_host.size(); ++s) {
    const int64_t begin = batch.query_start_host[s], end = batch.query_start_host[s + 1],
                  context = batch.context_lens_host[s];
    if (begin == end) continue;
    const at::Tensor blocks = batch.block_tables[s].narrow(0, 0, BlocksFor(context));
    const at::Tensor keys = Gather(cache.keys, cache.key_scales, blocks, context);
    const at::Tensor values = Gather(cache.values, cache.value_scales, blocks, context);
    const at::Tensor key_positions = at::arange(context, batch.positions.options());
    for (int64_t first = begin; first < end; first += kReferenceQueryChunk) {
      const int64_t n = std::min(kReferenceQueryChunk, end - first);
      const at::Tensor q =
          queries.narrow(0, first, n).permute({1, 2, 0, 3}).to(at::kFloat);  // [kv_heads, group, n, head_dim]
      at::Tensor scores = at::matmul(q.reshape({kv_heads, group * n, head_dim}), keys.transpose(1, 2)).mul_(scale);
      const at::Tensor positions =
          at::arange(context - end + first, context - end + first + n, batch.positions.options()).unsqueeze(1);
      at::Tensor hidden = key_positions > positions;  // [n, context]
      if (window > 0) hidden = at::logical_or(hidden, key_positions <= positions - window);
      scores = scores.view({kv_heads, group, n, context}).masked_fill_(hidden, -std::numeric_limits<float>::infinity());
      const at::Tensor weights = at::softmax(scores, -1).view({kv_heads, group * n, context});
      const at::Tensor mixed = at::matmul(weights, values).view({kv_heads, group, n, head_dim}).permute({2, 0, 1, 3});
      out.narrow(0, first, n).view({n, kv_heads, group, head_dim}).copy_(mixed);
    }
  }
  return out;
}

void ReferenceOps::Add(at::Tensor& x, const at::Tensor& y) { x.add_(y); }

void ReferenceOps::ZeroRows(at::Tensor& x, const at::Tensor& rows) { x.index_fill_(0, rows, 0); }

at::Tensor ReferenceOps::SelectRows(const at::Tensor& x, const at::Tensor& rows) { return x.index_select(0, rows); }

at::Tensor ReferenceOps::Activate(const at::Tensor& x, Activation kind, bool gated) {
  const int64_t width = gated ? x.size(-1) / 2 : x.size(-1);
  const at::Tensor in = x.narrow(-1, 0, width).to(at::kFloat);
  at::Tensor y;
  switch (kind) {
    case Activation::kSilu: y = at::silu(in); break;
    case Activation::kGelu: y = at::gelu(in); break;
    case Activation::kGeluTanh: y = at::gelu(in, "tanh"); break;
    case Activation::kRelu: y = at::relu(in); break;
  }
  if (gated) y = y * x.narrow(-1, width, width).to(at::kFloat);
  return y.to(x.scalar_type());
}

std::vector<SampleOutput> ReferenceOps::Sample(const at::Tensor& logits, const std::vector<SampleRow>& rows) {
  TORCH_CHECK(logits.dim() == 2 && logits.size(0) == static_cast<int64_t>(rows.size()), "Sample: ", rows.size(),
              " rows asked for, but the logits have shape ", logits.sizes());
  return logits.is_cpu() ? SampleOnHost(logits, rows) : SampleOnDevice(logits, rows);
}

void ReferenceOps::CopyTokens(at::Tensor& to, const at::Tensor& to_index, const at::Tensor& from,
                              const at::Tensor& from_index) {
  to.index_copy_(0, to_index, from.index_select(0, from_index));
}

at::Tensor ReferenceOps::Candidates(const at::Tensor& logits, int64_t count, int64_t first) {
  return logits.is_cpu() ? CandidatesOnHost(logits, count, first) : CandidatesOnDevice(logits, count, first);
}

std::unique_ptr<Ops> MakeReferenceOps() { return std::make_unique<ReferenceOps>(); }

}  // namespace causeway
