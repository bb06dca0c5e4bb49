// Every operation of CpuOps, on every instruction set that this processor runs, against ReferenceOps.
#include "engine/ops/cpu/cpu_ops.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <omp.h>

#include "engine/ops/ops_testing.h"
#include "engine/ops/reference.h"

namespace causeway {
namespace {

using testing::Random;
using testing::Span;

class CpuOpsTest : public ::testing::TestWithParam<std::tuple<cpu::Isa, at::ScalarType>> {
 protected:
  cpu::Isa isa() const { return std::get<0>(GetParam()); }
  at::ScalarType dtype() const { return std::get<1>(GetParam()); }
  // Of results of about unit size: a few roundings to the dtype.
  double tolerance() const { return dtype() == at::kFloat ? 2e-5 : 2e-2; }

  // |actual - expected| <= tolerance * (1 + |expected|), and no NaN.
  void ExpectNear(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& what) {
    ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
    ASSERT_EQ(actual.scalar_type(), expected.scalar_type()) << what;
    if (actual.numel() == 0) return;
    const at::Tensor a = actual.to(at::kDouble), e = expected.to(at::kDouble);
    const double error = ((a - e).abs() / (e.abs() + 1)).max().item<double>();
    EXPECT_LE(error, tolerance) << what;  // also fails for NaN
  }

  // The same weight for the kernels and for the reference.
  struct Pair {
    std::unique_ptr<LinearWeight> fused, plain;
  };
  Pair MakeWeights(int64_t out, int64_t in, bool bias) {
    Pair pair{ops_->NewLinear(out, in, bias, dtype(), at::kCPU), reference_.NewLinear(out, in, bias, dtype(), at::kCPU)};
    const at::Tensor rows = random_.Tensor({out, in}, dtype(), 1 / std::sqrt(static_cast<double>(in)));
    ops_->SetRows(*pair.fused, 0, rows);
    reference_.SetRows(*pair.plain, 0, rows);
    if (bias) {
      const at::Tensor shift = random_.Tensor({out}, dtype());
      ops_->SetBias(*pair.fused, 0, shift);
      reference_.SetBias(*pair.plain, 0, shift);
    }
    return pair;
  }

  c10::InferenceMode guard_;
  Random random_{20240607};
  std::unique_ptr<Ops> ops_ = MakeCpuOps(isa());
  ReferenceOps reference_;
};

INSTANTIATE_TEST_SUITE_P(Isas, CpuOpsTest,
                         ::testing::Combine(::testing::ValuesIn(cpu::SupportedIsas()), ::testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                           std::string name = cpu::IsaName(std::get<0>(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + (std::get<1>(info.param) == at::kFloat ? "_fp32" : "_bf16");
                         });

TEST_P(CpuOpsTest, LinearMatchesReference) {
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{7, 32},   {1, 1},     {31, 33},  {64, 64},   {65, 127},
                                                           {96, 128}, {300, 257}, {128, 5}, {501, 700}, {33, 1024}};
  for (const auto& [out, in] : shapes) {
    for (bool bias : {false, true}) {
      const Pair weights = MakeWeights(out, in, bias);
      for (int64_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 31, 64, 253, 511}) {
        const at::Tensor x = random_.Tensor({rows, in}, dtype());
        // The reference in fp32 from the same rounded inputs, so that only the kernel's own rounding counts.
        const at::Tensor expected = reference_.Linear(x, *weights.plain);
        ExpectNear(ops_->Linear(x, *weights.fused), expected, tolerance(),
                   "out " + std::to_string(out) + " in " + std::to_string(in) + " rows " + std::to_string(rows));
      }
    }
  }
}

TEST_P(CpuOpsTest, LinearOfARowDoesNotDependOnTheBatchOrTheThreads) {
  const int64_t out = 200, in = 514;
  const Pair weights = MakeWeights(out, in, true);
  const at::Tensor x = random_.Tensor({300, in}, dtype());
  const at::Tensor all = ops_->Linear(x, *weights.fused);
  const int threads = omp_get_max_threads();
  for (int64_t rows : {1, 2, 5, 6, 7, 16, 33}) {
    omp_set_num_threads(static_cast<int>(1 + rows % 3));
    EXPECT_TRUE(at::equal(ops_->Linear(x.narrow(0, 17, rows), *weights.fused), all.narrow(0, 17, rows))) << rows << " rows";
  }
  omp_set_num_threads(threads);
}

TEST_P(CpuOpsTest, WeightsSetInPiecesByThreads) {
  const int64_t out = 64 * 9 + 21, in = 77;
  const at::Tensor rows = random_.Tensor({out, in}, at::kFloat), bias = random_.Tensor({out}, at::kFloat);
  auto whole = ops_->NewLinear(out, in, true, dtype(), at::kCPU), pieces = ops_->NewLinear(out, in, true, dtype(), at::kCPU);
  ops_->SetRows(*whole, 0, rows);
  ops_->SetBias(*whole, 0, bias);
  std::vector<std::thread> threads;
  for (int64_t begin = 0; begin < out; begin += 192) {  // each thread its own multiple of 64, in odd pieces
    threads.emplace_back([&, begin] {
      const int64_t end = std::min(begin + 192, out);
      int64_t n = 1;
      for (int64_t at = begin; at < end; at += n, n = n * 2 + 1) {
        n = std::min(n, end - at);
        ops_->SetRows(*pieces, at, rows.narrow(0, at, n));
        ops_->SetBias(*pieces, at, bias.narrow(0, at, n));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const at::Tensor x = random_.Tensor({3, in}, dtype());
  EXPECT_TRUE(at::equal(ops_->Linear(x, *whole), ops_->Linear(x, *pieces)));
  EXPECT_GE(whole->bytes(), out * in * (dtype() == at::kFloat ? 4 : 2));
}

TEST_P(CpuOpsTest, WeightsConvertFromOtherDtypes) {
  const at::Tensor rows = random_.Tensor({40, 64}, at::kFloat), x = random_.Tensor({2, 64}, dtype());
  for (at::ScalarType from : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    auto weight = ops_->NewLinear(40, 64, false, dtype(), at::kCPU), plain = reference_.NewLinear(40, 64, false, dtype(), at::kCPU);
    ops_->SetRows(*weight, 0, rows.to(from));
    reference_.SetRows(*plain, 0, rows.to(from));
    ExpectNear(ops_->Linear(x, *weight), reference_.Linear(x, *plain), 10 * tolerance(), c10::toString(from));
  }
}

TEST_P(CpuOpsTest, RowsOutsideAWeightAreRefused) {
  auto weight = ops_->NewLinear(8, 16, false, dtype(), at::kCPU);
  EXPECT_THROW(ops_->SetRows(*weight, 5, random_.Tensor({4, 16}, dtype())), c10::Error);
  EXPECT_THROW(ops_->SetRows(*weight, 0, random_.Tensor({4, 15}, dtype())), c10::Error);
  EXPECT_THROW(ops_->SetBias(*weight, 0, random_.Tensor({8}, dtype())), c10::Error);
  EXPECT_THROW(ops_->Linear(random_.Tensor({1, 15}, dtype()), *weight), c10::Error);
  EXPECT_THROW(ops_->Linear(random_.Tensor({1, 16}, at::kDouble), *weight), c10::Error);
}

TEST_P(CpuOpsTest, EmbeddingIsExact) {
  for (int64_t in : {1, 31, 32, 200}) {
    const Pair weights = MakeWeights(77, in, false);
    const at::Tensor ids = at::tensor(std::vector<int64_t>{76, 0, 31, 32, 33, 5, 5});
    EXPECT_TRUE(at::equal(ops_->Embedding(ids, *weights.fused), reference_.Embedding(ids, *weights.plain))) << in;
    EXPECT_THROW(ops_->Embedding(at::tensor(std::vector<int64_t>{77}), *weights.fused), c10::Error);
    EXPECT_THROW(ops_->Embedding(at::tensor(std::vector<int64_t>{-1}), *weights.fused), c10::Error);
  }
}

TEST_P(CpuOpsTest, NormsMatchReference) {
  for (int64_t width : {1, 7, 16, 33, 64, 1600, 2049}) {
    for (int64_t rows : {1, 3, 40}) {
      for (bool with_residual : {false, true}) {
        const at::Tensor x = random_.Tensor({rows, width}, dtype(), 3) + 1;
        const at::Tensor weight = random_.Tensor({width}, dtype()), bias = random_.Tensor({width}, dtype());
        const at::Tensor residual = random_.Tensor({rows, width}, dtype());
        const std::string what = "width " + std::to_string(width) + " rows " + std::to_string(rows);
        for (int kind = 0; kind < 3; ++kind) {
          const auto norm = [&](Ops& ops, const at::Tensor& r) {
            return kind == 0 ? ops.RmsNorm(x, r, weight, 1e-5) : ops.LayerNorm(x, r, weight, kind == 1 ? bias : at::Tensor(), 1e-5);
          };
          at::Tensor fused_residual, plain_residual;
          if (with_residual) fused_residual = residual.clone(), plain_residual = residual.clone();
          const at::Tensor actual = norm(*ops_, fused_residual), expected = norm(reference_, plain_residual);
          ExpectNear(actual, expected, tolerance(), what + " kind " + std::to_string(kind));
          if (with_residual) {
            EXPECT_TRUE(at::equal(fused_residual, plain_residual)) << what;
          }
        }
      }
    }
  }
}

TEST_P(CpuOpsTest, NormsOfColumnsMatchReferenceAndLeaveTheOthers) {
  for (int64_t width : {1, 7, 24, 128, 1031}) {
    for (int64_t rows : {0, 1, 3, 40}) {
      for (int64_t groups : {1, 4}) {
        const at::Tensor x = random_.Tensor({rows, 5 + groups * width + 3}, dtype(), 3) + 1, weight = random_.Tensor({width}, dtype());
        at::Tensor actual = x.clone(), expected = x.clone();
        ops_->NormColumns(actual, 5, groups, width, weight, 1e-5);
        reference_.NormColumns(expected, 5, groups, width, weight, 1e-5);
        const std::string what = "width " + std::to_string(width) + " rows " + std::to_string(rows) + " groups " + std::to_string(groups);
        ExpectNear(actual, expected, tolerance(), what);
        EXPECT_TRUE(at::equal(actual.narrow(1, 0, 5), x.narrow(1, 0, 5))) << what;
        EXPECT_TRUE(at::equal(actual.narrow(1, 5 + groups * width, 3), x.narrow(1, 5 + groups * width, 3))) << what;
      }
    }
  }
  at::Tensor x = random_.Tensor({2, 8}, dtype());
  EXPECT_THROW(ops_->NormColumns(x, 1, 2, 4, random_.Tensor({4}, dtype()), 1e-5), c10::Error);
  EXPECT_THROW(ops_->NormColumns(x, 0, 2, 4, random_.Tensor({8}, dtype()), 1e-5), c10::Error);
}

TEST_P(CpuOpsTest, ActivationsMatchReference) {
  for (Activation kind : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    for (bool gated : {false, true}) {
      for (int64_t width : {1, 15, 64, 5632}) {
        const at::Tensor x = random_.Tensor({3, gated ? 2 * width : width}, dtype(), 4);
        ExpectNear(ops_->Activate(x, kind, gated), reference_.Activate(x, kind, gated), tolerance() / 2,
                   "kind " + std::to_string(static_cast<int>(kind)) + " width " + std::to_string(width));
      }
      const at::Tensor extremes = at::tensor(std::vector<float>{-1e4, -200, -90, -20, -0.0, 1e-20, 20, 100, 1e4, 1}).view({1, 10}).to(dtype());
      ExpectNear(ops_->Activate(extremes, kind, gated), reference_.Activate(extremes, kind, gated), tolerance(), "extremes");
    }
  }
}

struct Heads {
  int64_t heads, kv_heads, head_dim;
};

TEST_P(CpuOpsTest, RotaryAndCacheMatchesReference) {
  for (const auto& [heads, kv_heads, head_dim] : {Heads{4, 4, 8}, {6, 2, 64}, {3, 1, 20}, {32, 4, 64}, {5, 5, 7}}) {
    for (int64_t rotary : {int64_t{0}, head_dim / 2 * 2, head_dim / 4 * 2}) {
      AttentionBatch batch;
      const int64_t blocks = testing::MakeBatch({{1, 40}, {19, 19}, {3, 70}}, random_, batch);
      const at::Tensor qkv = random_.Tensor({batch.positions.size(0), (heads + 2 * kv_heads) * head_dim}, dtype());
      at::Tensor cos, sin;
      if (rotary > 0) cos = random_.Tensor({80, rotary / 2}, at::kFloat), sin = random_.Tensor({80, rotary / 2}, at::kFloat);
      at::Tensor fused_qkv = qkv.clone(), plain_qkv = qkv.clone();
      const auto zeros = [&] { return at::zeros({blocks, kv_heads, kBlockTokens, head_dim}, dtype()); };
      KvLayer fused{zeros(), zeros(), {}, {}}, plain{zeros(), zeros(), {}, {}};
      ops_->RotaryAndCache(fused_qkv, cos, sin, heads, kv_heads, head_dim, batch, fused);
      reference_.RotaryAndCache(plain_qkv, cos, sin, heads, kv_heads, head_dim, batch, plain);
      ExpectNear(fused_qkv.narrow(1, 0, heads * head_dim), plain_qkv.narrow(1, 0, heads * head_dim), tolerance(), "queries");
      ExpectNear(fused.keys, plain.keys, tolerance(), "keys");
      EXPECT_TRUE(at::equal(fused.values, plain.values));
    }
  }
}

KvLayer EmptyInt8Cache(int64_t blocks, int64_t kv_heads, int64_t head_dim) {
  const auto integers = [&] { return at::zeros({blocks, kv_heads, kBlockTokens, head_dim}, at::kChar); };
  const auto scales = [&] { return at::full({blocks, kv_heads, kBlockTokens}, std::numeric_limits<float>::quiet_NaN(), at::kFloat); };
  return {integers(), integers(), scales(), scales()};
}

TEST_P(CpuOpsTest, RotaryAndAnInt8CacheMatchReference) {
  for (const auto& [heads, kv_heads, head_dim] : {Heads{4, 4, 8}, {6, 2, 64}, {3, 1, 20}, {5, 5, 7}}) {
    for (int64_t rotary : {int64_t{0}, head_dim / 4 * 2}) {
      AttentionBatch batch;
      const int64_t blocks = testing::MakeBatch({{1, 40}, {19, 19}, {3, 70}}, random_, batch);
      const at::Tensor qkv = random_.Tensor({batch.positions.size(0), (heads + 2 * kv_heads) * head_dim}, dtype());
      qkv.select(0, 2).zero_();
      qkv.select(0, 3).fill_(1e-38);  // its scale would have no inverse
      at::Tensor cos, sin;
      if (rotary > 0) cos = random_.Tensor({80, rotary / 2}, at::kFloat), sin = random_.Tensor({80, rotary / 2}, at::kFloat);
      at::Tensor fused_qkv = qkv.clone(), plain_qkv = qkv.clone();
      KvLayer fused = EmptyInt8Cache(blocks, kv_heads, head_dim), plain = EmptyInt8Cache(blocks, kv_heads, head_dim);
      ops_->RotaryAndCache(fused_qkv, cos, sin, heads, kv_heads, head_dim, batch, fused);
      reference_.RotaryAndCache(plain_qkv, cos, sin, heads, kv_heads, head_dim, batch, plain);
      ExpectNear(fused_qkv.narrow(1, 0, heads * head_dim), plain_qkv.narrow(1, 0, heads * head_dim), tolerance(), "queries");
      const at::Tensor values = qkv.view({-1, heads + 2 * kv_heads, head_dim}).narrow(1, heads + kv_heads, kv_heads).to(at::kFloat);
      for (int64_t row = 0; row < qkv.size(0); ++row) {
        const int64_t slot = batch.slots[row].item<int64_t>(), block = slot / kBlockTokens, offset = slot % kBlockTokens;
        const auto at = [&](const at::Tensor& t) { return t[block].select(1, offset); };  // [kv_heads, ...]
        ExpectNear(at(fused.key_scales), at(plain.key_scales), tolerance(), "key scales");
        ExpectNear(at(fused.value_scales), at(plain.value_scales), 1e-6, "value scales");
        for (const auto& [a, b] : {std::pair(fused.keys, plain.keys), {fused.values, plain.values}}) {
          EXPECT_LE((at(a).to(at::kInt) - at(b).to(at::kInt)).abs().max().item<int>(), 1) << "row " << row;
        }
        if (row == 3) {
          EXPECT_TRUE((at(fused.keys) == 0).all().item<bool>() && (at(fused.values) == 0).all().item<bool>());
          continue;
        }
        // Within half a step of what was to be stored.
        const at::Tensor error = (at(fused.values).to(at::kFloat) * at(fused.value_scales).unsqueeze(-1) - values[row]).abs();
        EXPECT_TRUE((error <= at(fused.value_scales).unsqueeze(-1) * 0.5001).all().item<bool>()) << "row " << row;
      }
    }
  }
}

// Nothing is a number of what an int8 cache holds for a head whose key or value was none, wherever in it that stood.
TEST_P(CpuOpsTest, AnInt8CacheKeepsWhatIsNotFinite) {
  const int64_t head_dim = 35;
  AttentionBatch batch;
  const int64_t blocks = testing::MakeBatch({{8, 8}}, random_, batch);
  const at::Tensor qkv = random_.Tensor({8, 6 * head_dim}, dtype());  // two heads of each
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const at::Tensor rows = qkv.view({8, 6, head_dim});
  rows[1][2][0] = nan, rows[2][2][34] = -nan, rows[3][2][17] = infinity, rows[4][2].fill_(-infinity);  // of the first key
  rows[1][4][0] = nan, rows[2][4][34] = -nan, rows[3][4][17] = infinity, rows[4][4].fill_(-infinity);  // of the first value
  KvLayer fused = EmptyInt8Cache(blocks, 2, head_dim), plain = EmptyInt8Cache(blocks, 2, head_dim);
  at::Tensor fused_qkv = qkv.clone(), plain_qkv = qkv.clone();
  ops_->RotaryAndCache(fused_qkv, {}, {}, 2, 2, head_dim, batch, fused);
  reference_.RotaryAndCache(plain_qkv, {}, {}, 2, 2, head_dim, batch, plain);
  EXPECT_TRUE(at::allclose(fused.key_scales, plain.key_scales, 1e-6, 0, /*equal_nan=*/true));
  EXPECT_TRUE(at::allclose(fused.value_scales, plain.value_scales, 1e-6, 0, /*equal_nan=*/true));
  for (int64_t row = 0; row < 8; ++row) {
    const int64_t slot = batch.slots[row].item<int64_t>(), block = slot / kBlockTokens, offset = slot % kBlockTokens;
    for (const auto& [integers, scales] : {std::pair(fused.keys, fused.key_scales), {fused.values, fused.value_scales}}) {
      const at::Tensor finite = (integers[block].select(1, offset) * scales[block].select(1, offset).unsqueeze(-1)).isfinite();
      EXPECT_TRUE(finite[1].all().item<bool>());
      EXPECT_EQ(finite[0].any().item<bool>(), row < 1 || row > 4) << row;
    }
  }
}

// Integers of all sizes, and scales of NaN where nothing was written.
KvLayer MakeInt8Cache(const AttentionBatch& batch, int64_t blocks, const Heads& h, Random& random) {
  KvLayer cache = EmptyInt8Cache(blocks, h.kv_heads, h.head_dim);
  for (const at::Tensor& side : {cache.keys, cache.values}) {
    std::generate_n(side.mutable_data_ptr<int8_t>(), side.numel(), [&] { return static_cast<int8_t>(random.Between(-kKvInt8Max, kKvInt8Max)); });
  }
  for (size_t s = 0; s < batch.context_lens_host.size(); ++s) {
    for (int64_t t = 0; t < batch.context_lens_host[s]; ++t) {
      const int64_t block = batch.block_tables[s][t / kBlockTokens].item<int32_t>();
      for (const at::Tensor& scales : {cache.key_scales, cache.value_scales}) {
        scales[block].select(1, t % kBlockTokens).copy_(random.Tensor({h.kv_heads}, at::kFloat, 0.01).abs());
      }
    }
  }
  return cache;
}

// A cache whose unwritten places hold NaN: they must not be able to reach a result.
KvLayer MakeCache(const AttentionBatch& batch, int64_t blocks, const Heads& h, at::ScalarType dtype, Random& random) {
  const auto unwritten = [&] { return at::full({blocks, h.kv_heads, kBlockTokens, h.head_dim}, std::numeric_limits<double>::quiet_NaN(), dtype); };
  KvLayer cache{unwritten(), unwritten(), {}, {}};
  for (size_t s = 0; s < batch.context_lens_host.size(); ++s) {
    for (int64_t t = 0; t < batch.context_lens_host[s]; ++t) {
      const int64_t block = batch.block_tables[s][t / kBlockTokens].item<int32_t>();
      for (const at::Tensor& side : {cache.keys, cache.values}) {
        side[block].select(1, t % kBlockTokens).copy_(random.Tensor({h.kv_heads, h.head_dim}, dtype));
      }
    }
  }
  return cache;
}

TEST_P(CpuOpsTest, AttentionMatchesReference) {
  const std::vector<std::vector<Span>> batches = {
      {{1, 1}}, {{1, 17}, {1, 64}, {1, 65}}, {{33, 33}}, {{5, 90}, {1, 130}, {70, 70}, {0, 12}, {16, 48}}, {{1, 1100}}, {{130, 700}}};
  for (const Heads& h : {Heads{4, 4, 8}, {8, 1, 64}, {6, 2, 80}, {3, 3, 20}, {2, 1, 7}, {4, 2, 128}}) {
    for (const std::vector<Span>& spans : batches) {
      AttentionBatch batch;
      const int64_t blocks = testing::MakeBatch(spans, random_, batch);
      const KvLayer caches[] = {MakeCache(batch, blocks, h, dtype(), random_), MakeInt8Cache(batch, blocks, h, random_)};
      const at::Tensor qkv = random_.Tensor({batch.positions.size(0), (h.heads + 2 * h.kv_heads) * h.head_dim}, dtype());
      for (const KvLayer& cache : caches) {
        for (int64_t window : {0, 1, 40, 200}) {
          const double scale = 1 / std::sqrt(static_cast<double>(h.head_dim));
          ExpectNear(ops_->PagedAttention(qkv, h.heads, h.kv_heads, h.head_dim, scale, window, batch, cache),
                     reference_.PagedAttention(qkv, h.heads, h.kv_heads, h.head_dim, scale, window, batch, cache), tolerance(),
                     "heads " + std::to_string(h.heads) + " dim " + std::to_string(h.head_dim) + " window " + std::to_string(window) +
                         " first context " + std::to_string(spans[0].context) + (cache.quantized() ? " int8" : ""));
        }
      }
    }
  }
}

TEST_P(CpuOpsTest, AttentionOfARowDoesNotDependOnTheBatchOrTheThreads) {
  const Heads h{8, 2, 32};
  AttentionBatch batch;
  const int32_t context = 1300, rows = 100;
  const int64_t blocks = testing::MakeBatch({{rows, context}}, random_, batch);
  const KvLayer caches[] = {MakeCache(batch, blocks, h, dtype(), random_), MakeInt8Cache(batch, blocks, h, random_)};
  const at::Tensor qkv = random_.Tensor({rows, (h.heads + 2 * h.kv_heads) * h.head_dim}, dtype());
  const int threads = omp_get_max_threads();
  for (const auto& [cache, window] : {std::pair(caches[0], 0), {caches[0], 600}, {caches[1], 0}, {caches[1], 600}}) {
    const auto run = [&, &cache = cache](const AttentionBatch& b, const at::Tensor& x, int64_t window) {
      return ops_->PagedAttention(x, h.heads, h.kv_heads, h.head_dim, 0.2, window, b, cache);
    };
    const at::Tensor all = run(batch, qkv, window);
    for (int32_t row : {0, 1, 50, 99}) {  // alone: cut along the context
      AttentionBatch one = batch;
      one.query_start_host = {0, 1};
      one.context_lens_host = {context - rows + row + 1};
      for (int count : {1, 2, 3}) {
        omp_set_num_threads(count);
        EXPECT_TRUE(at::equal(run(one, qkv.narrow(0, row, 1), window), all.narrow(0, row, 1))) << "row " << row << ", " << count << " threads";
      }
      omp_set_num_threads(threads);
    }
  }
}

TEST_P(CpuOpsTest, OtherDtypesGoToTheReference) {
  const at::Tensor x = random_.Tensor({3, 24}, at::kDouble), w = random_.Tensor({24}, at::kDouble);
  auto weight = ops_->NewLinear(5, 24, false, at::kDouble, at::kCPU);
  const at::Tensor rows = random_.Tensor({5, 24}, at::kDouble);
  ops_->SetRows(*weight, 0, rows);
  ExpectNear(ops_->Linear(x, *weight), x.matmul(rows.t()), 1e-12, "linear");
  ExpectNear(ops_->RmsNorm(x, {}, w, 1e-5), reference_.RmsNorm(x, {}, w, 1e-5), 0, "norm");
  ExpectNear(ops_->Activate(x, Activation::kGelu, true), reference_.Activate(x, Activation::kGelu, true), 0, "activation");
}

class VectorMathTest : public ::testing::TestWithParam<cpu::Isa> {};
INSTANTIATE_TEST_SUITE_P(Isas, VectorMathTest, ::testing::ValuesIn(cpu::SupportedIsas()), [](const auto& info) {
  std::string name = cpu::IsaName(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(VectorMathTest, ExpAndGeluKeepTheirRelativeAccuracy) {
  std::vector<float> x, y(20001);
  for (int i = 0; i <= 20000; ++i) x.push_back(static_cast<float>(-87 + i * (87 + 88) / 20000.0));
  cpu::KernelsOf(GetParam()).exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(y[i] / std::exp(static_cast<double>(x[i])) - 1));
  EXPECT_LT(worst, 2.5e-7);

  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(-12 + 24.0 * static_cast<double>(i) / 20000);
  cpu::KernelsOf(GetParam()).gelu(x.data(), y.data(), static_cast<int64_t>(x.size()));
  worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == 0) continue;
    const double v = x[i], exact = v * 0.5 * std::erfc(-v / std::sqrt(2.0));
    worst = std::max(worst, std::abs(y[i] / exact - 1));
  }
  EXPECT_LT(worst, 1e-5);  // of which rounding v^2 / 2 before e^x is the most, far out

  float in[3] = {-1000, -88.5f, 0}, out[3];
  cpu::KernelsOf(GetParam()).exp(in, out, 3);
  EXPECT_EQ(out[0], 0);
  EXPECT_EQ(out[1], 0);
  EXPECT_EQ(out[2], 1);
}

}  // namespace
}  // namespace causeway
