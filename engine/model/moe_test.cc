#include "engine/model/moe.h"

#include <ATen/core/IListRef.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include "absl/strings/str_cat.h"
#include "engine/model/testing.h"

namespace causeway {
namespace {

constexpr int64_t kHidden = 12, kInner = 8, kExperts = 5;

MoeSpec Spec(bool correction) {
  MoeSpec spec;
  spec.router = {.parts = {{"gate.weight", "", kExperts}}, .in_features = kHidden};
  if (correction) spec.correction_bias = "bias";
  spec.rule = {.experts_per_token = 2, .normalize = true};
  for (int64_t e = 0; e < kExperts; ++e) {
    const std::string path = absl::StrCat("experts.", e, ".");
    spec.experts.push_back(
        {.gated = true,
         .up = {.parts = {{path + "w1", "", kInner}, {path + "w3", "", kInner}}, .in_features = kHidden},
         .down = {.parts = {{path + "w2", "", kHidden}}, .in_features = kInner}});
  }
  return spec;
}

// A mixture whose weights are set past the loader.
class MoeTest : public ::testing::Test {
 protected:
  Moe Make(const MoeSpec& spec, ParallelGroup group = {}) {
    Moe moe(testing::Context(model_, *ops_, group), spec);
    Fill(moe.router(), router_);
    for (int64_t e = 0; e < kExperts; ++e) {
      Fill(moe.experts()[e].up(), up_[e]);
      Fill(moe.experts()[e].down(), down_[e]);
    }
    return moe;
  }
  void Fill(const Linear& linear, const at::Tensor& whole) {
    std::vector<at::Tensor> runs;
    for (const ShareRange& run : linear.shard().outputs) runs.push_back(whole.narrow(0, run.first, run.count));
    linear.weight()->SetRows(0, at::cat(runs).narrow(1, linear.shard().in_first, linear.shard().in_count));
  }

  c10::InferenceMode inference_;
  const ModelSpec model_;
  std::unique_ptr<Ops> ops_ = MakeReferenceOps();
  const at::Tensor router_ = at::randn({kExperts, kHidden});
  const std::vector<at::Tensor> up_ = at::randn({kExperts, 2 * kInner, kHidden}).unbind(),
                                down_ = at::randn({kExperts, kHidden, kInner}).unbind();
};

TEST_F(MoeTest, SumsTheMlpsOfTheChosenExperts) {
  const Moe moe = Make(Spec(false));
  const at::Tensor x = at::randn({9, kHidden});
  const auto [scores, chosen] = x.matmul(router_.t()).softmax(-1).topk(2);
  at::Tensor expected = at::zeros_like(x);
  for (int64_t t = 0; t < 9; ++t) {
    for (int64_t j = 0; j < 2; ++j) {
      const int64_t e = chosen[t][j].item<int64_t>();
      expected[t] +=
          scores[t][j] / scores[t].sum() * moe.experts()[e].Forward(testing::OpsAlone(*ops_), x.narrow(0, t, 1))[0];
    }
  }
  EXPECT_TRUE(at::allclose(moe.Forward(testing::OpsAlone(*ops_), x), expected, 1e-4, 1e-4));
  const ExpertLoad load = moe.counter().Read();
  EXPECT_EQ(load.steps, 1);
  for (int64_t e = 0; e < kExperts; ++e) EXPECT_EQ(load.tokens[e], chosen.eq(e).sum().item<int64_t>()) << e;
}

TEST_F(MoeTest, TheCorrectionSteersTheChoice) {
  const Moe moe = Make(Spec(true));
  moe.correction().copy_(at::tensor(std::vector<float>{0, 9, 0, 0, 9}));
  moe.Forward(testing::OpsAlone(*ops_), at::randn({3, kHidden}));
  EXPECT_THAT(moe.counter().Read().tokens, ::testing::ElementsAre(0, 3, 0, 0, 3));
}

TEST_F(MoeTest, RanksOfAGroupAddUpToTheWhole) {
  const at::Tensor x = at::randn({6, kHidden});
  const at::Tensor whole = Make(Spec(false)).Forward(testing::OpsAlone(*ops_), x);
  const at::Tensor first = Make(Spec(false), {.rank = 0, .size = 2}).Forward(testing::OpsAlone(*ops_), x);
  const at::Tensor sum = first.add(Make(Spec(false), {.rank = 1, .size = 2}).Forward(testing::OpsAlone(*ops_), x));
  EXPECT_TRUE(at::allclose(sum, whole, 1e-4, 1e-4));
  EXPECT_FALSE(at::allclose(first, whole, 1e-2, 1e-2));
}

TEST_F(MoeTest, ExpertsThatTheRouterDoesNotKnowAreRefused) {
  MoeSpec spec = Spec(false);
  spec.experts.pop_back();
  try {
    Make(spec);
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("gate.weight has 5 outputs for 4 experts"));
  }
}

}  // namespace
}  // namespace causeway
