// Compares ReferenceOps with plain loops in double, and sampling on a device with sampling on the host.
#include "engine/ops/reference.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "engine/ops/ops_testing.h"

namespace causeway {
namespace {

using testing::Random;

class ReferenceOpsTest : public ::testing::Test {
 protected:
  // Expects t[i][j] == want(i, j) to fp32's accuracy.
  void ExpectEach(const at::Tensor& t, const std::function<double(int64_t, int64_t)>& want, const std::string& what) {
    const at::Tensor d = t.to(at::kDouble).contiguous();
    for (int64_t i = 0; i < d.size(0); ++i) {
      for (int64_t j = 0; j < d.size(1); ++j) {
        const double expected = want(i, j);
        ASSERT_NEAR(d[i][j].item<double>(), expected, 2e-5 * (1 + std::abs(expected)))
            << what << " at " << i << ", " << j;
      }
    }
  }
  static double At(const at::Tensor& t, int64_t i, int64_t j) { return t.const_data_ptr<float>()[i * t.size(1) + j]; }

  c10::InferenceMode guard_;
  Random random_{7};
  ReferenceOps ops_;
};

TEST_F(ReferenceOpsTest, LinearAndEmbedding) {
  const int64_t out = 9, in = 21;
  const at::Tensor rows = random_.Tensor({out, in}, at::kFloat), bias = random_.Tensor({1, out}, at::kFloat);
  auto weight = ops_.NewLinear(out, in, true, at::kFloat, at::kCPU);
  weight->SetRows(0, rows.narrow(0, 0, 4));
  weight->SetRows(4, rows.narrow(0, 4, 5));
  weight->SetBias(0, bias[0]);
  EXPECT_EQ(weight->out_features(), out);
  EXPECT_EQ(weight->in_features(), in);
  EXPECT_EQ(weight->bytes(), (out * in + out) * 4);
  const at::Tensor x = random_.Tensor({5, in}, at::kFloat);
  ExpectEach(
      weight->Forward(x),
      [&](int64_t i, int64_t j) {
        double sum = At(bias, 0, j);
        for (int64_t k = 0; k < in; ++k) sum += At(x, i, k) * At(rows, j, k);
        return sum;
      },
      "linear");
  EXPECT_TRUE(at::equal(weight->Lookup(at::tensor(std::vector<int64_t>{8, 0, 8}))[2], rows[8]));
}

TEST_F(ReferenceOpsTest, Norms) {
  const int64_t width = 37;
  const at::Tensor x = random_.Tensor({4, width}, at::kFloat, 2) + 0.5,
                   residual = random_.Tensor({4, width}, at::kFloat);
  const at::Tensor weight = random_.Tensor({1, width}, at::kFloat), bias = random_.Tensor({1, width}, at::kFloat);
  const double eps = 1e-3;
  const auto sum = [&](int64_t i, int64_t j) { return At(x, i, j) + At(residual, i, j); };
  const auto moment = [&](int64_t i, double mean, int power) {
    double total = 0;
    for (int64_t j = 0; j < width; ++j) total += std::pow(sum(i, j) - mean, power);
    return total / width;
  };
  at::Tensor r = residual.clone();
  ExpectEach(
      ops_.RmsNorm(x, r, weight[0], eps),
      [&](int64_t i, int64_t j) { return sum(i, j) / std::sqrt(moment(i, 0, 2) + eps) * At(weight, 0, j); },
      "rms norm");
  ExpectEach(r, sum, "residual");
  r = residual.clone();
  ExpectEach(
      ops_.LayerNorm(x, r, weight[0], bias[0], eps),
      [&](int64_t i, int64_t j) {
        const double mean = moment(i, 0, 1);
        return (sum(i, j) - mean) / std::sqrt(moment(i, mean, 2) + eps) * At(weight, 0, j) + At(bias, 0, j);
      },
      "layer norm");
  ExpectEach(r, sum, "residual");
}

TEST_F(ReferenceOpsTest, NormsOfColumns) {
  const int64_t first = 2, groups = 3, width = 5, columns = first + groups * width + 4;
  const double eps = 1e-3;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor given = random_.Tensor({4, columns}, dtype, 2), x = given.to(at::kFloat);
    const at::Tensor given_weight = random_.Tensor({1, width}, dtype), weight = given_weight.to(at::kFloat);
    at::Tensor normed = given.clone();
    ops_.NormColumns(normed, first, groups, width, given_weight[0], eps);
    const auto rounded = [dtype](double v) {
      return at::tensor(v, at::kDouble).to(at::kFloat).to(dtype).item<double>();
    };
    ExpectEach(
        normed.to(at::kFloat),
        [&](int64_t i, int64_t j) {
          if (j < first || j >= first + groups * width) return At(x, i, j);
          double squares = 0;
          const int64_t run = (j - first) / width * width + first;
          for (int64_t k = run; k < run + width; ++k) squares += At(x, i, k) * At(x, i, k);
          // The result is rounded twice: as a normed value, and after it is multiplied with its weight.
          return rounded(rounded(At(x, i, j) / std::sqrt(squares / width + eps)) * At(weight, 0, j - run));
        },
        "norm of columns");
  }
}

TEST_F(ReferenceOpsTest, Activations) {
  const at::Tensor x = random_.Tensor({3, 14}, at::kFloat, 3);
  const auto apply = [](Activation kind, double v) {
    switch (kind) {
      case Activation::kSilu: return v / (1 + std::exp(-v));
      case Activation::kGelu: return v * 0.5 * std::erfc(-v / std::sqrt(2.0));
      case Activation::kGeluTanh: return v * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
      case Activation::kRelu: return v > 0 ? v : 0;
    }
    return 0.0;
  };
  for (Activation kind : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    ExpectEach(ops_.Activate(x, kind, false), [&](int64_t i, int64_t j) { return apply(kind, At(x, i, j)); }, "plain");
    ExpectEach(
        ops_.Activate(x, kind, true), [&](int64_t i, int64_t j) { return apply(kind, At(x, i, j)) * At(x, i, 7 + j); },
        "gated");
  }
}

// Tests rotation, cache and attention together, against keys and values kept in plain arrays.
TEST_F(ReferenceOpsTest, RotaryCacheAndAttention) {
  const int64_t heads = 4, kv_heads = 2, dim = 10, rotary = 6, half = rotary / 2,
                columns = (heads + 2 * kv_heads) * dim;
  for (int64_t window : {0, 5}) {
    AttentionBatch batch;
    const std::vector<testing::Span> spans = {{37, 37}, {20, 20}};
    const int64_t blocks = testing::MakeBatch(spans, random_, batch);
    const at::Tensor cos = random_.Tensor({40, half}, at::kFloat), sin = random_.Tensor({40, half}, at::kFloat);
    const at::Tensor qkv = random_.Tensor({57, columns}, at::kFloat);
    KvLayer cache{
        at::zeros({blocks, kv_heads, kBlockTokens, dim}), at::zeros({blocks, kv_heads, kBlockTokens, dim}), {}, {}};
    at::Tensor rotated = qkv.clone();
    ops_.RotaryAndCache(rotated, cos, sin, heads, kv_heads, dim, batch, cache);
    const at::Tensor out = ops_.PagedAttention(rotated, heads, kv_heads, dim, 0.3, window, batch, cache);

    const auto element = [&](int64_t row, int64_t first_row, int64_t head, int64_t d) {  // of a query or key, rotated
      const int64_t p = row - first_row;
      const auto raw = [&](int64_t at) { return At(qkv, row, head * dim + at); };
      if (d < half) return raw(d) * At(cos, p, d) - raw(d + half) * At(sin, p, d);
      if (d < rotary) return raw(d) * At(cos, p, d - half) + raw(d - half) * At(sin, p, d - half);
      return raw(d);
    };
    for (int64_t row = 0; row < 57; ++row) {
      const int64_t first_row = row < 37 ? 0 : 37;
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t kv = h / (heads / kv_heads);
        std::vector<double> weights, mixed(dim);
        double total = 0;
        for (int64_t key = first_row; key <= row; ++key) {
          double score = 0;
          for (int64_t d = 0; d < dim; ++d)
            score += element(row, first_row, h, d) * element(key, first_row, heads + kv, d);
          const bool seen = window == 0 || key > row - window;
          weights.push_back(seen ? std::exp(0.3 * score) : 0);
          total += weights.back();
        }
        for (int64_t key = first_row; key <= row; ++key) {
          for (int64_t d = 0; d < dim; ++d)
            mixed[d] += weights[key - first_row] / total * At(qkv, key, (heads + kv_heads + kv) * dim + d);
        }
        for (int64_t d = 0; d < dim; ++d) {
          ASSERT_NEAR(At(out, row, h * dim + d), mixed[d], 5e-5)
              << "row " << row << " head " << h << " window " << window;
        }
      }
    }
  }
}

// What is written in int8 is within half a step of the exact value, and attention is computed from the integers times
// their scales.
TEST_F(ReferenceOpsTest, AnInt8CacheIsItsIntegersTimesTheirScales) {
  const int64_t heads = 4, kv_heads = 2, dim = 10;
  AttentionBatch batch;
  const int64_t blocks = testing::MakeBatch({{37, 37}, {20, 20}}, random_, batch);
  const at::Tensor cos = random_.Tensor({40, 3}, at::kFloat), sin = random_.Tensor({40, 3}, at::kFloat);
  const at::Tensor qkv = random_.Tensor({57, (heads + 2 * kv_heads) * dim}, at::kFloat);
  qkv.select(0, 5).zero_();  // a row without a largest value
  const auto side = [&](at::ScalarType type) { return at::zeros({blocks, kv_heads, kBlockTokens, dim}, type); };
  const auto scales = [&] { return at::zeros({blocks, kv_heads, kBlockTokens}, at::kFloat); };
  KvLayer exact{side(at::kFloat), side(at::kFloat), {}, {}},
      small{side(at::kChar), side(at::kChar), scales(), scales()};
  at::Tensor rotated = qkv.clone(), same = qkv.clone();
  ops_.RotaryAndCache(rotated, cos, sin, heads, kv_heads, dim, batch, exact);
  ops_.RotaryAndCache(same, cos, sin, heads, kv_heads, dim, batch, small);
  const at::Tensor key_steps = small.key_scales.unsqueeze(-1), value_steps = small.value_scales.unsqueeze(-1);
  const KvLayer wide{small.keys.to(at::kFloat) * key_steps, small.values.to(at::kFloat) * value_steps, {}, {}};
  EXPECT_TRUE(((wide.keys - exact.keys).abs() <= key_steps * 0.5001).all().item<bool>());
  EXPECT_TRUE(((wide.values - exact.values).abs() <= value_steps * 0.5001).all().item<bool>());
  EXPECT_GT((wide.keys - exact.keys).abs().max().item<float>(), 0);
  EXPECT_EQ(small.keys.abs().max().item<int8_t>(), kKvInt8Max);
  const at::Tensor out = ops_.PagedAttention(rotated, heads, kv_heads, dim, 0.3, 0, batch, small);
  EXPECT_TRUE(at::equal(out, ops_.PagedAttention(rotated, heads, kv_heads, dim, 0.3, 0, batch, wide)));
}

TEST_F(ReferenceOpsTest, SamplingOnTheDeviceAgreesWithTheHost) {
  const int64_t vocab = 500, n = 48;
  for (int round = 0; round < 12; ++round) {
    at::Tensor logits = random_.Tensor({n, vocab}, round % 2 == 0 ? at::kFloat : at::kBFloat16, 3);  // bf16: many ties
    if (round % 3 == 1) logits.round_();  // the likeliest tie
    if (round == 3) logits[2].fill_(std::numeric_limits<double>::quiet_NaN());
    if (round > 3) logits[2][vocab - 1 - round] = (round % 2 == 0 ? 1 : -1) * std::numeric_limits<double>::infinity();
    std::vector<SamplingParams> params(n);
    std::vector<std::vector<int32_t>> masked(n), prompt(n), output(n);
    std::vector<std::vector<uint32_t>> allowed(n);
    std::vector<SampleRow> rows(n);
    for (int64_t i = 0; i < n; ++i) {
      SamplingParams& p = params[i];
      const auto chance = [&] { return random_.Between(0, 2) == 0; };
      p.temperature = chance() ? 0 : static_cast<double>(random_.Between(1, 20)) / 10;
      if (chance()) p.top_k = chance() ? 1 : static_cast<int32_t>(random_.Between(1, 60));
      if (chance()) p.top_p = static_cast<double>(random_.Between(1, 100)) / 100;
      if (chance()) p.min_p = static_cast<double>(random_.Between(0, 50)) / 100;
      if (chance()) p.typical_p = static_cast<double>(random_.Between(1, 100)) / 100;
      if (chance()) p.repetition_penalty = 1.3;
      if (chance()) p.presence_penalty = -0.7;
      if (chance()) p.frequency_penalty = 0.4;
      if (chance()) p.logit_bias = {{3, 5.0f}, {7, -100.0f}, {static_cast<int32_t>(vocab) - 1, 2.5f}};
      p.logprobs = chance();
      p.top_logprobs = static_cast<int32_t>(random_.Between(0, 20));
      if (chance()) masked[i] = {1, 2, static_cast<int32_t>(vocab) + 5};
      prompt[i].resize(vocab);
      output[i].resize(vocab);
      for (int64_t t = 0; t < vocab; ++t)
        prompt[i][t] = static_cast<int32_t>(random_.Between(0, 1)),
        output[i][t] = static_cast<int32_t>(random_.Between(0, 3) / 2);
      if (chance()) {
        allowed[i].resize(vocab / 32 + random_.Between(0, 1));  // with and without the last, partial word
        for (uint32_t& word : allowed[i])
          word = chance() ? 0 : chance() ? ~0u : static_cast<uint32_t>(random_.Between(1, 1 << 30));
      }
      rows[i] = {&p,
                 &masked[i],
                 p.needs_counts() ? &prompt[i] : nullptr,
                 p.needs_counts() ? &output[i] : nullptr,
                 allowed[i],
                 chance() ? static_cast<int32_t>(random_.Between(0, vocab - 1)) : -1,
                 static_cast<double>(random_.Between(0, 999'999)) / 1e6};
    }
    const std::vector<SampleOutput> host = SampleOnHost(logits, rows), device = SampleOnDevice(logits, rows);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(host[i].finite, round < 3 || i != 2) << "round " << round << " row " << i;
      EXPECT_EQ(device[i].finite, host[i].finite) << "round " << round << " row " << i;
      if (!host[i].finite) continue;
      EXPECT_EQ(device[i].token, host[i].token) << "round " << round << " row " << i;
      EXPECT_NEAR(device[i].logprob, host[i].logprob, 1e-4);
      ASSERT_EQ(device[i].top.size(), host[i].top.size());
      for (size_t t = 0; t < host[i].top.size(); ++t) {
        EXPECT_EQ(device[i].top[t].first, host[i].top[t].first);
        EXPECT_NEAR(device[i].top[t].second, host[i].top[t].second, 1e-4);
      }
    }
  }
}

}  // namespace
}  // namespace causeway
