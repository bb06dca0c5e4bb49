// Sampling over logits that lie in host memory (row by row, SampleOne) and on another device (whole batches of ATen
// operations). Both make the same choices; engine/sampling/sampler.h says which.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/IListRef.h>
#include <ATen/core/List.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scatter.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include "absl/base/casts.h"
#include "engine/ops/reference.h"
#include "engine/ops/rehearsal.h"
#include "engine/threads/for_each.h"

namespace causeway {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Whether all are finite. By their bits: so the loop stays one for the vector units.
template <typename T>
bool Widen(const T* from, int64_t n, float* to) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t not_finite = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float wide = static_cast<float>(from[i]);
    to[i] = wide;
    not_finite |= static_cast<uint32_t>((absl::bit_cast<uint32_t>(wide) & kExponent) == kExponent);
  }
  return not_finite == 0;
}

// A column [rows, 1] of one number for each row.
template <typename Get>
at::Tensor Column(const std::vector<SampleRow>& rows, at::ScalarType dtype, at::Device device, Get get) {
  std::vector<double> values;
  values.reserve(rows.size());
  for (const SampleRow& row : rows) values.push_back(static_cast<double>(get(row)));
  return at::tensor(values, at::kDouble).to(dtype).unsqueeze(1).to(device, /*non_blocking=*/true);
}

// Values for (row, token) pairs, gathered on the host.
struct Sparse {
  std::vector<int64_t> rows, tokens;
  std::vector<float> values;

  void Add(int64_t row, int32_t token, float value, int64_t vocab) {
    if (token < 0 || token >= vocab) return;
    rows.push_back(row);
    tokens.push_back(token);
    values.push_back(value);
  }
  void PutInto(at::Tensor& logits, bool add) const {
    if (rows.empty()) return;
    const auto on_device = [&logits](const at::Tensor& t) { return t.to(logits.device(), /*non_blocking=*/true); };
    logits.index_put_({on_device(at::tensor(rows)), on_device(at::tensor(tokens))}, on_device(at::tensor(values)),
                      /*accumulate=*/add);
  }
};

// Penalties of the tokens that the row's text has. Only they travel to the device, and not a count for each token of
// the vocabulary.
void Penalize(at::Tensor logits, const SampleRow& row) {
  const std::vector<int32_t>&prompt = *row.prompt_counts, &output = *row.output_counts;
  std::vector<int64_t> tokens;
  std::vector<float> counts;
  for (size_t token = 0; token < output.size(); ++token) {
    if (prompt[token] == 0 && output[token] == 0) continue;
    tokens.push_back(static_cast<int64_t>(token));
    counts.push_back(static_cast<float>(output[token]));
  }
  if (tokens.empty()) return;
  const SamplingParams& p = *row.params;
  const at::Tensor index = at::tensor(tokens).to(logits.device(), /*non_blocking=*/true),
                   count = at::tensor(counts).to(logits.device(), /*non_blocking=*/true);
  at::Tensor seen = logits.index_select(0, index);
  if (p.repetition_penalty != 1) {
    const float penalty = static_cast<float>(p.repetition_penalty);
    seen = at::where(seen > 0, seen / penalty, seen * penalty);
  }
  seen.sub_(count * p.frequency_penalty + (count > 0).to(at::kFloat) * p.presence_penalty);
  logits.index_copy_(0, index, seen);
}

// Rules out the tokens that a row's bits don't allow: they become -infinity. The bits travel as an eighth of a byte for
// each token, and the device spreads them out to [rows, vocab].
void KeepAllowed(at::Tensor& logits, const std::vector<SampleRow>& rows) {
  std::vector<int64_t> constrained;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].allowed.empty()) constrained.push_back(static_cast<int64_t>(i));
  }
  if (constrained.empty()) return;
  const int64_t vocab = logits.size(1), words = (vocab + 31) / 32, n = static_cast<int64_t>(constrained.size());
  at::Tensor bits = at::zeros({n, words}, at::kInt);
  for (int64_t i = 0; i < n; ++i) {
    const absl::Span<const uint32_t> allowed = rows[constrained[i]].allowed;
    std::copy_n(allowed.begin(), std::min<int64_t>(words, static_cast<int64_t>(allowed.size())),
                reinterpret_cast<uint32_t*>(bits.data_ptr<int32_t>()) + i * words);
  }
  const at::Device device = logits.device();
  const at::Tensor shifts = at::arange(32, at::TensorOptions(at::kInt).device(device));
  const at::Tensor one = bits.to(device, /*non_blocking=*/true).unsqueeze(2).bitwise_right_shift(shifts).bitwise_and(1);
  const at::Tensor ruled_out = one.eq(0).reshape({n, words * 32}).narrow(1, 0, vocab);
  const at::Tensor index = at::tensor(constrained).to(device, /*non_blocking=*/true);
  logits.index_copy_(0, index, logits.index_select(0, index).masked_fill_(ruled_out, kNever));
}

void Process(at::Tensor& logits, const std::vector<SampleRow>& rows) {
  const int64_t vocab = logits.size(1);
  KeepAllowed(logits, rows);
  Sparse masked, bias;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].masked != nullptr) {
      for (int32_t token : *rows[i].masked) masked.Add(i, token, kNever, vocab);
    }
    for (const auto& [token, value] : rows[i].params->logit_bias) bias.Add(i, token, value, vocab);
  }
  masked.PutInto(logits, /*add=*/false);  // before the bias, since infinity less infinity is no number
  bias.PutInto(logits, /*add=*/true);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].params->needs_counts()) Penalize(logits[static_cast<int64_t>(i)], rows[i]);
  }
}

// Which tokens with a weight typical_p keeps, [rows, vocab]; sampler.cc's KeepTypical says how.
at::Tensor Typical(const at::Tensor& logits, const std::vector<SampleRow>& rows, const at::Tensor& max,
                   const at::Tensor& scale, const at::Tensor& weights) {
  const at::Device device = logits.device();
  const at::Tensor log_weights = ((logits - max) * scale).to(at::kDouble);
  const at::Tensor none = weights <= 0;
  const at::Tensor mean =
      (weights * log_weights.masked_fill(none, 0)).sum(1, /*keepdim=*/true) / weights.sum(1, /*keepdim=*/true);
  const at::Tensor distance = (log_weights - mean).abs_().masked_fill_(none, -kNever);
  const auto [sorted, order] = at::sort(distance, /*stable=*/true, /*dim=*/1, /*descending=*/false);
  const at::Tensor mass = at::cumsum(weights.gather(1, order), 1);
  const at::Tensor typical_p =
      Column(rows, at::kDouble, device, [](const SampleRow& r) { return r.params->typical_p; });
  const at::Tensor last =
      (mass < typical_p * mass.narrow(1, mass.size(1) - 1, 1)).sum(1, /*keepdim=*/true).clamp_max_(mass.size(1) - 1);
  return (distance <= sorted.gather(1, last)).logical_or(typical_p >= 1);
}

// Chooses a token for each row, [rows, 1].
at::Tensor Choose(const at::Tensor& logits, const std::vector<SampleRow>& rows) {
  const auto any = [&rows](auto&& wants) {
    return std::any_of(rows.begin(), rows.end(), [&](const SampleRow& r) { return wants(*r.params); });
  };
  const at::Tensor best = at::argmax(logits, -1, /*keepdim=*/true);
  if (!any([](const SamplingParams& p) { return p.temperature != 0; })) return best;

  const at::Device device = logits.device();
  const int64_t vocab = logits.size(1);
  const at::Tensor max = logits.gather(1, best);
  const at::Tensor scale = Column(rows, at::kFloat, device, [](const SampleRow& r) {
    return std::min(1 / std::max(r.params->temperature, 1e-30), 1e30);
  });
  at::Tensor weights = at::exp((logits - max) * scale).to(at::kDouble);
  at::Tensor kept = at::ones_like(logits, at::kBool);
  if (any([vocab](const SamplingParams& p) { return p.top_p < 1 || (p.top_k > 0 && p.top_k < vocab); })) {
    const at::Tensor order =
        std::get<1>(at::sort(logits, /*stable=*/true, /*dim=*/1, /*descending=*/true));  // lower ids first on ties
    const at::Tensor last = Column(rows, at::kLong, device, [vocab](const SampleRow& r) {
      return (r.params->top_k > 0 && r.params->top_k < vocab ? r.params->top_k : vocab) - 1;
    });
    at::Tensor kept_sorted = at::arange(vocab, last.options()) <= last;
    const at::Tensor sorted_weights = weights.gather(1, order) * kept_sorted;
    const at::Tensor mass = at::cumsum(sorted_weights, 1);
    const at::Tensor top_p = Column(rows, at::kDouble, device, [](const SampleRow& r) { return r.params->top_p; });
    kept_sorted =
        kept_sorted.logical_and((mass - sorted_weights < top_p * mass.narrow(1, vocab - 1, 1)).logical_or(top_p >= 1));
    kept = kept.scatter(1, order, kept_sorted);
  }
  if (any([](const SamplingParams& p) { return p.min_p > 0; })) {
    const at::Tensor floor = Column(rows, at::kFloat, device, [](const SampleRow& r) {
      return r.params->min_p > 0 ? std::log(r.params->min_p) : kNever;
    });
    kept = kept.logical_and(logits >= max + floor / scale);
  }
  if (any([](const SamplingParams& p) { return p.typical_p < 1; }))
    kept = kept.logical_and(Typical(logits, rows, max, scale, weights * kept));
  const at::Tensor mass = at::cumsum(weights * kept, 1);
  const at::Tensor total = mass.narrow(1, vocab - 1, 1);
  const at::Tensor uniform = Column(rows, at::kDouble, device, [](const SampleRow& r) { return r.uniform; });
  const at::Tensor drawn = (mass <= uniform * total).sum(1, /*keepdim=*/true);
  const at::Tensor last_possible = (mass < total).sum(1, /*keepdim=*/true);
  // Without a finite largest logit there are no probabilities to draw by.
  const at::Tensor greedy =
      Column(rows, at::kBool, device, [](const SampleRow& r) { return r.params->temperature == 0; });
  return at::where(greedy.logical_or(max.isfinite().logical_not()), best, at::minimum(drawn, last_possible));
}

}  // namespace

bool WidenRow(const at::Tensor& logits, int64_t row, float* to) {
  const int64_t vocab = logits.size(1);
  switch (logits.scalar_type()) {
    case at::kBFloat16: return Widen(logits.const_data_ptr<at::BFloat16>() + row * vocab, vocab, to);
    case at::kHalf: return Widen(logits.const_data_ptr<at::Half>() + row * vocab, vocab, to);
    default: return Widen(logits.const_data_ptr<float>() + row * vocab, vocab, to);
  }
}

std::vector<SampleOutput> SampleOnHost(const at::Tensor& logits, const std::vector<SampleRow>& rows) {
  const at::Tensor dense = logits.contiguous();
  const int64_t vocab = dense.size(1);
  std::vector<SampleOutput> outputs(rows.size());
  ForEach(Rehearsal::Rows(static_cast<int64_t>(rows.size())), [&](int64_t i) {
    thread_local std::vector<float> row;
    thread_local SampleScratch scratch;
    row.resize(vocab);
    const bool finite = WidenRow(dense, i, row.data());
    outputs[i] = SampleOne(absl::MakeSpan(row), rows[i], scratch);
    outputs[i].finite = finite;
  });
  return outputs;
}

std::vector<SampleOutput> SampleOnDevice(const at::Tensor& logits, const std::vector<SampleRow>& rows) {
  const StartedSample sample = ReferenceOps().StartSample(logits, rows);
  return ReadSample(sample, sample.outputs.cpu());
}

StartedSample ReferenceOps::StartSample(const at::Tensor& logits, const std::vector<SampleRow>& rows) {
  StartedSample sample;
  int32_t most = -1;
  for (const SampleRow& row : rows) {
    sample.top_logprobs.push_back(row.params->logprobs ? row.params->top_logprobs : -1);
    most = std::max(most, sample.top_logprobs.back());
  }
  const int64_t top = std::min<int64_t>(most, logits.size(1));
  const at::Tensor finite = logits.isfinite().all(1, /*keepdim=*/true);
  const at::Tensor raw = at::nan_to_num(logits.to(at::kFloat), kNever, -kNever, kNever);
  at::Tensor processed = raw.clone();
  Process(processed, rows);
  at::Tensor& tokens = sample.tokens;
  tokens = Choose(processed, rows);
  if (std::any_of(rows.begin(), rows.end(), [](const SampleRow& r) { return r.given >= 0; })) {
    const at::Tensor given = Column(rows, at::kLong, tokens.device(), [](const SampleRow& r) { return r.given; });
    tokens = at::where(given >= 0, given, tokens);
  }

  // A double holds a token id and a float exactly.
  std::vector<at::Tensor> columns = {finite.to(at::kDouble), tokens.to(at::kDouble)};
  if (top >= 0) {
    const at::Tensor log_softmax = at::log_softmax(raw, -1);
    columns.push_back(log_softmax.gather(1, tokens).to(at::kDouble));
    if (top > 0) {
      const auto [values, ids] = at::sort(log_softmax, /*stable=*/true, /*dim=*/1, /*descending=*/true);
      columns.push_back(ids.narrow(1, 0, top).to(at::kDouble));
      columns.push_back(values.narrow(1, 0, top).to(at::kDouble));
    }
  }
  sample.outputs = at::cat(columns, 1);  // [rows, 2], or [rows, 3 + 2 top]
  tokens = tokens.squeeze(1);
  return sample;
}

std::vector<SampleOutput> ReadSample(const StartedSample& sample, const at::Tensor& host) {
  const int64_t columns = host.size(1), top = (columns - 3) / 2;
  std::vector<SampleOutput> outputs(sample.top_logprobs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const double* row = host.const_data_ptr<double>() + i * columns;
    const int32_t wanted = sample.top_logprobs[i];
    outputs[i].finite = row[0] != 0;
    outputs[i].token = static_cast<int32_t>(row[1]);
    if (wanted < 0) continue;
    outputs[i].logprob = static_cast<float>(row[2]);
    for (int64_t t = 0; t < std::min<int64_t>(wanted, top); ++t) {
      outputs[i].top.emplace_back(static_cast<int32_t>(row[3 + t]), static_cast<float>(row[3 + top + t]));
    }
  }
  return outputs;
}

}  // namespace causeway
