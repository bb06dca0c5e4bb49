// Compares attention of CpuOps, and the caches that it reads, with ReferenceOps.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "engine/ops/cpu/cpu_ops_testing.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

using testing::Random;
using testing::Span;

class CpuAttentionTest : public testing::CpuOpsTest {};
INSTANTIATE_TEST_SUITE_P(Isas, CpuAttentionTest, testing::AllKernels(), testing::KernelsName);

struct Heads {
  int64_t heads, kv_heads, head_dim;
};

TEST_P(CpuAttentionTest, RotaryAndCacheMatchesReference) {
  for (const auto& [heads, kv_heads, head_dim] : {Heads{4, 4, 8}, {6, 2, 64}, {3, 1, 20}, {32, 4, 64}, {5, 5, 7}}) {
    for (int64_t rotary : {int64_t{0}, head_dim / 2 * 2, head_dim / 4 * 2}) {
      AttentionBatch batch;
      const int64_t blocks = testing::MakeBatch({{1, 40}, {19, 19}, {3, 70}}, random_, batch);
      const at::Tensor qkv =
          random_.Tensor({batch.positions.size(0), (heads + 2 * kv_heads) * head_dim}, activations());
      at::Tensor cos, sin;
      if (rotary > 0)
        cos = random_.Tensor({80, rotary / 2}, at::kFloat), sin = random_.Tensor({80, rotary / 2}, at::kFloat);
      at::Tensor fused_qkv = qkv.clone(), plain_qkv = qkv.clone();
      const auto zeros = [&](at::ScalarType held) {
        return at::zeros({blocks, kv_heads, kBlockTokens, head_dim}, held);
      };
      KvLayer fused{zeros(dtype()), zeros(dtype()), {}, {}}, plain{zeros(activations()), zeros(activations()), {}, {}};
      ops_->RotaryAndCache(fused_qkv, cos, sin, heads, kv_heads, head_dim, batch, fused);
      reference_.RotaryAndCache(plain_qkv, cos, sin, heads, kv_heads, head_dim, batch, plain);
      ExpectNear(fused_qkv.narrow(1, 0, heads * head_dim), plain_qkv.narrow(1, 0, heads * head_dim), tolerance(),
                 "queries");
      ExpectNear(fused.keys, plain.keys.to(dtype()), cached_tolerance(), "keys");
      EXPECT_TRUE(at::equal(fused.values, plain.values.to(dtype())));
    }
  }
}

// Steps around halves' borders: their least numbers and halfway between them, and what rounds to their largest or to
// infinity.
TEST_P(CpuAttentionTest, ValuesAreRoundedToTheNearestHalf) {
  if (dtype() != at::kHalf) return;
  AttentionBatch batch;
  const int64_t head_dim = 2048, blocks = testing::MakeBatch({{1, 1}}, random_, batch);
  at::Tensor qkv = random_.Tensor({1, 3 * head_dim}, at::kFloat, 2e-6);
  at::Tensor values = qkv.narrow(1, 2 * head_dim, head_dim);
  values.narrow(1, 0, 1024).mul_(at::pow(2.0, at::arange(1024, at::kFloat).div(24)));
  const std::vector<float> borders = {0.0f,     -0.0f,    0x1p-24f,     0x1p-25f,    0x1.8p-25f, 0x1.8p-24f,
                                      0x1p-14f, 65504.0f, 65519.99f,    65520.0f,    -65520.0f,  1e30f,
                                      INFINITY, NAN,      0x1.ffcp-15f, 0x1.ffep-15f};
  values.narrow(1, 1024, static_cast<int64_t>(borders.size())).copy_(at::tensor(borders));
  KvLayer cache{at::zeros({blocks, 1, kBlockTokens, head_dim}, dtype()),
                at::zeros({blocks, 1, kBlockTokens, head_dim}, dtype()),
                {},
                {}};
  const at::Tensor expected = values.to(at::kHalf).to(at::kFloat);
  ops_->RotaryAndCache(qkv, {}, {}, 1, 1, head_dim, batch, cache);
  const int64_t slot = batch.slots[0].item<int64_t>();
  const at::Tensor stored =
      cache.values[slot / kBlockTokens][0][slot % kBlockTokens].view({1, head_dim}).to(at::kFloat);
  EXPECT_TRUE(at::allclose(stored, expected, 0, 0, /*equal_nan=*/true));
}

KvLayer EmptyInt8Cache(int64_t blocks, int64_t kv_heads, int64_t head_dim) {
  const auto integers = [&] { return at::zeros({blocks, kv_heads, kBlockTokens, head_dim}, at::kChar); };
  const auto scales = [&] {
    return at::full({blocks, kv_heads, kBlockTokens}, std::numeric_limits<float>::quiet_NaN(), at::kFloat);
  };
  return {integers(), integers(), scales(), scales()};
}

TEST_P(CpuAttentionTest, RotaryAndAnInt8CacheMatchReference) {
  for (const auto& [heads, kv_heads, head_dim] : {Heads{4, 4, 8}, {6, 2, 64}, {3, 1, 20}, {5, 5, 7}}) {
    for (int64_t rotary : {int64_t{0}, head_dim / 4 * 2}) {
      AttentionBatch batch;
      const int64_t blocks = testing::MakeBatch({{1, 40}, {19, 19}, {3, 70}}, random_, batch);
      const at::Tensor qkv =
          random_.Tensor({batch.positions.size(0), (heads + 2 * kv_heads) * head_dim}, activations());
      qkv.select(0, 2).zero_();
      qkv.select(0, 3).fill_(1e-38);  // its scale would have no inverse
      at::Tensor cos, sin;
      if (rotary > 0)
        cos = random_.Tensor({80, rotary / 2}, at::kFloat), sin = random_.Tensor({80, rotary / 2}, at::kFloat);
      at::Tensor fused_qkv = qkv.clone(), plain_qkv = qkv.clone();
      KvLayer fused = EmptyInt8Cache(blocks, kv_heads, head_dim), plain = EmptyInt8Cache(blocks, kv_heads, head_dim);
      ops_->RotaryAndCache(fused_qkv, cos, sin, heads, kv_heads, head_dim, batch, fused);
      reference_.RotaryAndCache(plain_qkv, cos, sin, heads, kv_heads, head_dim, batch, plain);
      ExpectNear(fused_qkv.narrow(1, 0, heads * head_dim), plain_qkv.narrow(1, 0, heads * head_dim), tolerance(),
                 "queries");
      const at::Tensor values =
          qkv.view({-1, heads + 2 * kv_heads, head_dim}).narrow(1, heads + kv_heads, kv_heads).to(at::kFloat);
      for (int64_t row = 0; row < qkv.size(0); ++row) {
        const int64_t slot = batch.slots[row].item<int64_t>(), block = slot / kBlockTokens,
                      offset = slot % kBlockTokens;
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
        // The value that was stored is within half a step of what was to be.
        const at::Tensor error =
            (at(fused.values).to(at::kFloat) * at(fused.value_scales).unsqueeze(-1) - values[row]).abs();
        EXPECT_TRUE((error <= at(fused.value_scales).unsqueeze(-1) * 0.5001).all().item<bool>()) << "row " << row;
      }
    }
  }
}

// A head whose key or value holds a NaN or an infinity, wherever in it, has no finite number in an int8 cache.
TEST_P(CpuAttentionTest, AnInt8CacheKeepsWhatIsNotFinite) {
  const int64_t head_dim = 35;
  AttentionBatch batch;
  const int64_t blocks = testing::MakeBatch({{8, 8}}, random_, batch);
  const at::Tensor qkv = random_.Tensor({8, 6 * head_dim}, activations());  // two heads of each
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const at::Tensor rows = qkv.view({8, 6, head_dim});
  rows[1][2][0] = nan, rows[2][2][34] = -nan, rows[3][2][17] = infinity,
  rows[4][2].fill_(-infinity);  // in the first key
  rows[1][4][0] = nan, rows[2][4][34] = -nan, rows[3][4][17] = infinity,
  rows[4][4].fill_(-infinity);  // in the first value
  KvLayer fused = EmptyInt8Cache(blocks, 2, head_dim), plain = EmptyInt8Cache(blocks, 2, head_dim);
  at::Tensor fused_qkv = qkv.clone(), plain_qkv = qkv.clone();
  ops_->RotaryAndCache(fused_qkv, {}, {}, 2, 2, head_dim, batch, fused);
  reference_.RotaryAndCache(plain_qkv, {}, {}, 2, 2, head_dim, batch, plain);
  EXPECT_TRUE(at::allclose(fused.key_scales, plain.key_scales, 1e-6, 0, /*equal_nan=*/true));
  EXPECT_TRUE(at::allclose(fused.value_scales, plain.value_scales, 1e-6, 0, /*equal_nan=*/true));
  for (int64_t row = 0; row < 8; ++row) {
    const int64_t slot = batch.slots[row].item<int64_t>(), block = slot / kBlockTokens, offset = slot % kBlockTokens;
    for (const auto& [integers, scales] :
         {std::pair(fused.keys, fused.key_scales), {fused.values, fused.value_scales}}) {
      const at::Tensor finite =
          (integers[block].select(1, offset) * scales[block].select(1, offset).unsqueeze(-1)).isfinite();
      EXPECT_TRUE(finite[1].all().item<bool>());
      EXPECT_EQ(finite[0].any().item<bool>(), row < 1 || row > 4) << row;
    }
  }
}

// An int8 cache of integers of all sizes, with scales of NaN where nothing was written.
KvLayer MakeInt8Cache(const AttentionBatch& batch, int64_t blocks, const Heads& h, Random& random) {
  KvLayer cache = EmptyInt8Cache(blocks, h.kv_heads, h.head_dim);
  for (const at::Tensor& side : {cache.keys, cache.values}) {
    std::generate_n(side.mutable_data_ptr<int8_t>(), side.numel(),
                    [&] { return static_cast<int8_t>(random.Between(-kKvInt8Max, kKvInt8Max)); });
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
  const auto unwritten = [&] {
    return at::full({blocks, h.kv_heads, kBlockTokens, h.head_dim}, std::numeric_limits<double>::quiet_NaN(), dtype);
  };
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

TEST_P(CpuAttentionTest, AttentionMatchesReference) {
  const std::vector<std::vector<Span>> batches = {{{1, 1}},    {{1, 17}, {1, 64}, {1, 65}},
                                                  {{33, 33}},  {{5, 90}, {1, 130}, {70, 70}, {0, 12}, {16, 48}},
                                                  {{1, 1100}}, {{130, 700}}};
  for (const Heads& h : {Heads{4, 4, 8}, {8, 1, 64}, {6, 2, 80}, {3, 3, 20}, {2, 1, 7}, {4, 2, 128}}) {
    for (const std::vector<Span>& spans : batches) {
      AttentionBatch batch;
      const int64_t blocks = testing::MakeBatch(spans, random_, batch);
      const KvLayer caches[] = {MakeCache(batch, blocks, h, dtype(), random_),
                                MakeInt8Cache(batch, blocks, h, random_)};
      const at::Tensor qkv =
          random_.Tensor({batch.positions.size(0), (h.heads + 2 * h.kv_heads) * h.head_dim}, activations());
      for (const KvLayer& cache : caches) {
        for (int64_t window : {0, 1, 40, 200}) {
          const double scale = 1 / std::sqrt(static_cast<double>(h.head_dim));
          ExpectNear(ops_->PagedAttention(qkv, h.heads, h.kv_heads, h.head_dim, scale, window, batch, cache),
                     reference_.PagedAttention(qkv, h.heads, h.kv_heads, h.head_dim, scale, window, batch, cache),
                     tolerance(),
                     "heads " + std::to_string(h.heads) + " dim " + std::to_string(h.head_dim) + " window " +
                         std::to_string(window) + " first context " + std::to_string(spans[0].context) +
                         (cache.quantized() ? " int8" : ""));
        }
      }
    }
  }
}

TEST_P(CpuAttentionTest, AttentionOfARowDoesNotDependOnTheBatchOrTheThreads) {
  const Heads h{8, 2, 32};
  AttentionBatch batch;
  const int32_t context = 1300, rows = 100;
  const int64_t blocks = testing::MakeBatch({{rows, context}}, random_, batch);
  const KvLayer caches[] = {MakeCache(batch, blocks, h, dtype(), random_), MakeInt8Cache(batch, blocks, h, random_)};
  const at::Tensor qkv = random_.Tensor({rows, (h.heads + 2 * h.kv_heads) * h.head_dim}, activations());
  for (const auto& [cache, window] : {std::pair(caches[0], 0), {caches[0], 600}, {caches[1], 0}, {caches[1], 600}}) {
    const auto run = [&, &cache = cache](const AttentionBatch& b, const at::Tensor& x, int64_t window) {
      return ops_->PagedAttention(x, h.heads, h.kv_heads, h.head_dim, 0.2, window, b, cache);
    };
    const at::Tensor all = run(batch, qkv, window);
    for (int32_t row : {0, 1, 50, 99}) {  // a single query, cut along the context
      AttentionBatch one = batch;
      one.query_start_host = {0, 1};
      one.context_lens_host = {context - rows + row + 1};
      for (int count : {1, 2, 3}) {
        SetTeam(count);
        EXPECT_TRUE(at::equal(run(one, qkv.narrow(0, row, 1), window), all.narrow(0, row, 1)))
            << "row " << row << ", " << count << " threads";
      }
      SetTeam(2);
    }
  }
}

}  // namespace
}  // namespace causeway
