#include "engine/ops/rehearsal.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/ops_testing.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

TEST(RehearsalTest, FirstRowsAreAsAlwaysAndTheOthersZeros) {
  c10::InferenceMode inference;
  SetTeam(2);
  testing::Random random(3);
  const std::unique_ptr<Ops> ops = MakeCpuOps();
  for (const WeightFormat& format : {WeightFormat{}, WeightFormat{.kind = WeightKind::kInt8}}) {
    const auto weight = ops->NewLinear(/*out=*/80, /*in=*/64, /*bias=*/true, at::kBFloat16, at::kCPU, format);
    weight->SetRows(0, random.Tensor({80, 64}, at::kFloat));
    weight->SetBias(0, random.Tensor({80}, at::kFloat));
    for (const int64_t rows : {1, 16, 17, 200}) {
      const at::Tensor x = random.Tensor({rows, 64}, at::kBFloat16), expected = weight->Forward(x);
      const Rehearsal rehearsal;
      const at::Tensor y = weight->Forward(x);
      const int64_t computed = Rehearsal::Rows(rows);
      EXPECT_EQ(computed, std::min<int64_t>(rows, 16));
      EXPECT_TRUE(y.narrow(0, 0, computed).equal(weight->Forward(x.narrow(0, 0, computed))));
      EXPECT_EQ(y.narrow(0, computed, rows - computed).count_nonzero().item<int64_t>(), 0);
      EXPECT_LT((y - expected).narrow(0, 0, computed).abs().max().item<float>(), 0.1);
    }
  }
  EXPECT_FALSE(Rehearsal::Now());
  EXPECT_EQ(Rehearsal::Rows(200), 200);
  SetTeam(1);
}

TEST(RehearsalTest, AttentionOfManyRowsIsFinite) {
  c10::InferenceMode inference;
  testing::Random random(4);
  const std::unique_ptr<Ops> ops = MakeCpuOps();
  AttentionBatch batch;
  const int64_t blocks = testing::MakeBatch({{3000, 3000}, {1, 2000}, {1, 40}}, random, batch), heads = 4, kv_heads = 2,
                head_dim = 32;
  KvLayer cache;
  for (at::Tensor* side : {&cache.keys, &cache.values})
    *side = random.Tensor({blocks, kv_heads, kBlockTokens, head_dim}, at::kBFloat16);
  const at::Tensor qkv = random.Tensor({3002, (heads + 2 * kv_heads) * head_dim}, at::kBFloat16);
  const Rehearsal rehearsal;
  const at::Tensor out = ops->PagedAttention(qkv, heads, kv_heads, head_dim, 0.2, 0, batch, cache);
  EXPECT_TRUE(out.isfinite().all().item<bool>());
  EXPECT_GT(out.count_nonzero().item<int64_t>(), 0);
  EXPECT_LT(out.count_nonzero().item<int64_t>(), out.numel() / 2);
}

}  // namespace
}  // namespace causeway
