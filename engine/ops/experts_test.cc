// Compares routing and experts, of the reference and of the kernels on every instruction set, with plain loops in
// double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/ops_testing.h"
#include "engine/ops/reference.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using testing::Random;

struct Case {
  std::string name;
  std::unique_ptr<Ops> (*make)(cpu::Isa);
  cpu::Isa isa;
  at::ScalarType dtype;
};

std::string Suffix(at::ScalarType dtype) {
  return dtype == at::kFloat ? "_fp32" : dtype == at::kHalf ? "_fp16" : "_bf16";
}
std::unique_ptr<Ops> MakeFused(cpu::Isa isa) { return MakeCpuOps(isa); }
std::unique_ptr<Ops> MakePlain(cpu::Isa) { return MakeReferenceOps(); }

std::vector<Case> FusedCases() {
  std::vector<Case> cases;
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (cpu::Isa isa : cpu::SupportedIsas()) {
      std::string name = cpu::IsaName(isa);
      std::replace(name.begin(), name.end(), '-', '_');
      cases.push_back({name + Suffix(dtype), MakeFused, isa, dtype});
    }
  }
  return cases;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = FusedCases();
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf})
    cases.push_back({"reference" + Suffix(dtype), MakePlain, {}, dtype});
  return cases;
}

class ExpertsTest : public ::testing::TestWithParam<Case> {
 protected:
  // A mixture of experts, which also keeps its weights as they were given.
  struct Mixture {
    std::vector<std::unique_ptr<LinearWeight>> held;
    std::vector<ExpertWeights> experts;
    std::vector<at::Tensor> up, down;  // fp64 [2 * inner, hidden], [hidden, inner]
  };
  Mixture Make(int64_t experts, int64_t hidden, int64_t inner) {
    Mixture mixture;
    const auto add = [&](int64_t out, int64_t in, std::vector<at::Tensor>& plain) {
      const at::Tensor rows = random_.Tensor({out, in}, dtype(), 1 / std::sqrt(static_cast<double>(in)));
      mixture.held.push_back(ops_->NewLinear(out, in, false, dtype(), at::kCPU));
      mixture.held.back()->SetRows(0, rows);
      plain.push_back(rows.to(at::kDouble));
      return mixture.held.back().get();
    };
    for (int64_t e = 0; e < experts; ++e) {
      const LinearWeight* up = add(2 * inner, hidden, mixture.up);
      mixture.experts.push_back({up, add(hidden, inner, mixture.down)});
    }
    return mixture;
  }
  // Sends each token to `count` different experts of [first, first + among).
  Routing RandomRouting(int64_t tokens, int64_t count, int64_t first, int64_t among) {
    Routing routing{at::zeros({tokens, count}, at::kInt), random_.Tensor({tokens, count}, at::kFloat).abs()};
    std::vector<int32_t> order(among);
    std::iota(order.begin(), order.end(), static_cast<int32_t>(first));
    for (int64_t t = 0; t < tokens; ++t) {
      std::shuffle(order.begin(), order.end(), random_.engine());
      std::copy_n(order.begin(), count, routing.experts.mutable_data_ptr<int32_t>() + t * count);
    }
    return routing;
  }
  static at::Tensor Expected(const at::Tensor& x, const Routing& routing, const Mixture& mixture) {
    at::Tensor y = at::zeros({x.size(0), x.size(1)}, at::kDouble);
    for (int64_t t = 0; t < x.size(0); ++t) {
      for (int64_t j = 0; j < routing.experts.size(1); ++j) {
        const int32_t e = routing.experts[t][j].item<int32_t>();
        const at::Tensor up = mixture.up[e].mv(x[t].to(at::kDouble));
        const int64_t inner = up.size(0) / 2;
        const at::Tensor gate = up.narrow(0, 0, inner);
        y[t] += routing.weights[t][j].item<float>() *
                mixture.down[e].mv(gate * gate.sigmoid() * up.narrow(0, inner, inner));
      }
    }
    return y;
  }
  void ExpectNear(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
    ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
    ASSERT_EQ(actual.scalar_type(), activations()) << what;
    if (actual.numel() == 0) return;
    const at::Tensor error = (actual.to(at::kDouble) - expected).abs() / (expected.abs() + 1);
    EXPECT_LE(error.max().item<double>(), activations() == at::kFloat ? 1e-5 : 4e-2) << what;
  }
  at::ScalarType dtype() const { return GetParam().dtype; }  // of weights
  at::ScalarType activations() const { return ops_->Activations(dtype()); }

  c10::InferenceMode guard_;
  Random random_{31};
  std::unique_ptr<Ops> ops_ = GetParam().make(GetParam().isa);
};

INSTANTIATE_TEST_SUITE_P(Ops, ExpertsTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

// Tests of the kernels alone, for what ATen does not promise.
class FusedExpertsTest : public ExpertsTest {};
INSTANTIATE_TEST_SUITE_P(Ops, FusedExpertsTest, ::testing::ValuesIn(FusedCases()),
                         [](const auto& info) { return info.param.name; });

std::vector<int32_t> Chosen(const Routing& routing) {
  const at::Tensor flat = routing.experts.flatten();
  return {flat.const_data_ptr<int32_t>(), flat.const_data_ptr<int32_t>() + flat.numel()};
}

TEST_P(ExpertsTest, RoutesAsALoopInDouble) {
  for (int64_t experts : {1, 8, 33, 256}) {
    for (const bool sigmoid : {false, true}) {
      for (const bool corrected : {false, true}) {
        const RoutingRule rule{.experts_per_token = std::min<int64_t>(experts, 8),
                               .score = sigmoid ? RouterScore::kSigmoid : RouterScore::kSoftmax,
                               .normalize = experts != 33};
        const at::Tensor logits = random_.Tensor({70, experts}, activations(), 2);
        const at::Tensor correction = corrected ? random_.Tensor({experts}, at::kFloat) : at::Tensor();
        const Routing routing = ops_->Route(logits, correction, rule);
        ASSERT_EQ(routing.experts.sizes(), (std::vector<int64_t>{70, rule.experts_per_token}));
        const at::Tensor in = logits.to(at::kDouble);
        for (int64_t t = 0; t < 70; ++t) {
          const at::Tensor score = sigmoid ? in[t].sigmoid() : in[t].softmax(0);
          const at::Tensor compared = corrected ? score + correction : score;
          double sum = 0, least = std::numeric_limits<double>::infinity();
          std::vector<bool> taken(experts, false);
          for (int64_t j = 0; j < rule.experts_per_token; ++j) {
            const int32_t e = routing.experts[t][j].item<int32_t>();
            ASSERT_FALSE(taken[e]);
            taken[e] = true;
            sum += score[e].item<double>();
            least = std::min(least, compared[e].item<double>());
          }
          for (int64_t e = 0; e < experts; ++e) {
            ASSERT_TRUE(taken[e] || compared[e].item<double>() <= least + 1e-6) << e;
          }
          for (int64_t j = 0; j < rule.experts_per_token; ++j) {
            const double one = score[routing.experts[t][j].item<int32_t>()].item<double>();
            ASSERT_NEAR(routing.weights[t][j].item<float>(), rule.normalize ? one / sum : one, 1e-5);
          }
        }
      }
    }
  }
}

TEST_P(ExpertsTest, OfEqualScoresTheLowerExpertGoesFirst) {
  const at::Tensor logits = at::tensor(std::vector<float>{1, 3, 3, 0, 3, 1}).view({1, 6}).to(activations());
  EXPECT_THAT(Chosen(ops_->Route(logits, {}, {.experts_per_token = 4})), ElementsAre(1, 2, 4, 0));
  // The correction counts for the choice alone.
  const at::Tensor correction = at::tensor(std::vector<float>{9, 0, 0, 9, 0, 0});
  const Routing routing = ops_->Route(logits, correction, {.experts_per_token = 3, .score = RouterScore::kSigmoid});
  EXPECT_THAT(Chosen(routing), ElementsAre(0, 3, 1));
  EXPECT_NEAR(routing.weights[0][1].item<float>(), 0.5, 1e-6);
}

TEST_P(ExpertsTest, LogitsThatAreNotNumbersStillChooseExperts) {
  at::Tensor logits = random_.Tensor({2, 16}, at::kFloat);
  logits[0].fill_(std::numeric_limits<float>::quiet_NaN());
  logits[1][3] = std::numeric_limits<float>::quiet_NaN();
  for (RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    const Routing routing = ops_->Route(logits.to(activations()), {}, {.experts_per_token = 4, .score = score});
    for (int64_t t = 0; t < 2; ++t) {
      std::vector<int32_t> chosen = Chosen({routing.experts.narrow(0, t, 1), {}});
      std::sort(chosen.begin(), chosen.end());
      EXPECT_EQ(std::unique(chosen.begin(), chosen.end()), chosen.end());
      EXPECT_GE(chosen.front(), 0);
      EXPECT_LT(chosen.back(), 16);
    }
  }
}

TEST_P(ExpertsTest, MoreExpertsThanThereAreIsAnError) {
  EXPECT_THROW(ops_->Route(random_.Tensor({1, 4}, activations()), {}, {.experts_per_token = 5}), c10::Error);
  EXPECT_THROW(
      ops_->Route(random_.Tensor({1, 4}, activations()), random_.Tensor({3}, at::kFloat), {.experts_per_token = 2}),
      c10::Error);
  const Mixture mixture = Make(2, 8, 4);
  const Routing outside{at::tensor(std::vector<int32_t>{2}).view({1, 1}), at::zeros({1, 1}, at::kFloat)};
  EXPECT_THROW(
      ops_->Experts(random_.Tensor({1, 8}, activations()), outside, mixture.experts, Activation::kSilu, nullptr),
      c10::Error);
}

TEST_P(ExpertsTest, SumsWhatTheChosenExpertsMake) {
  const Mixture mixture = Make(13, 70, 33);
  struct Choice {
    int64_t tokens, count, first, among;
  };
  // The choices take all experts, some, one for all tokens, none.
  for (const Choice& c : {Choice{1, 13, 0, 13}, {9, 4, 0, 13}, {300, 2, 5, 3}, {40, 1, 12, 1}, {0, 2, 0, 13}}) {
    const at::Tensor x = random_.Tensor({c.tokens, 70}, activations());
    const Routing routing = RandomRouting(c.tokens, c.count, c.first, c.among);
    std::vector<int32_t> counts(3, 77);
    ExpectNear(ops_->Experts(x, routing, mixture.experts, Activation::kSilu, &counts), Expected(x, routing, mixture),
               std::to_string(c.tokens) + " tokens, " + std::to_string(c.count) + " of " + std::to_string(c.among));
    ASSERT_EQ(counts.size(), 13u);
    for (int32_t e = 0; e < 13; ++e) EXPECT_EQ(counts[e], routing.experts.eq(e).sum().item<int64_t>()) << e;
  }
}

TEST_P(ExpertsTest, IdleExpertsAreNotRead) {
  Mixture mixture = Make(4, 32, 16);
  const at::Tensor x = random_.Tensor({5, 32}, activations());
  const Routing routing = RandomRouting(5, 1, 2, 1);
  const at::Tensor expected = Expected(x, routing, mixture);
  for (int e : {0, 1, 3}) mixture.experts[e] = {};
  ExpectNear(ops_->Experts(x, routing, mixture.experts, Activation::kSilu, nullptr), expected, "one of four");
}

// Spoils all weights, but those of an expert between Acquire and Release.
class OneAtATime final : public ExpertFetcher {
 public:
  explicit OneAtATime(const std::vector<ExpertWeights>& experts) : experts_(experts) {
    for (const ExpertWeights& expert : experts) {
      auto& tensors = tensors_.emplace_back();
      for (const LinearWeight* weight : {expert.up, expert.down}) {
        for (const at::Tensor& tensor : weight->Tensors()) tensors.push_back({tensor, tensor.clone()});
      }
      Release(static_cast<int>(tensors_.size()) - 1);
    }
  }

  void Begin(const std::vector<Use>& uses) override {
    for (const auto& [expert, count] : uses) expected.push_back(expert), rows.push_back(static_cast<int32_t>(count));
  }
  ExpertWeights Acquire(int expert) override {
    acquired.push_back(expert);
    for (auto& [tensor, whole] : tensors_[expert]) tensor.copy_(whole);
    return experts_[expert];
  }
  void Release(int expert) override {
    for (auto& [tensor, whole] : tensors_[expert]) tensor.fill_(-1);
  }

  std::vector<int> expected, acquired;
  std::vector<int32_t> rows;

 private:
  const std::vector<ExpertWeights> experts_;
  std::vector<std::vector<std::pair<at::Tensor, at::Tensor>>> tensors_;
};

TEST_P(ExpertsTest, FetchedOneByOneTheyMakeTheSame) {
  for (const int64_t tokens : {1, 9, 300}) {
    const Mixture mixture = Make(13, 70, 33);
    const at::Tensor x = random_.Tensor({tokens, 70}, activations());
    const Routing routing = RandomRouting(tokens, 2, 5, 6);
    std::vector<int32_t> counts, counts_fetched;
    const at::Tensor all = ops_->Experts(x, routing, mixture.experts, Activation::kSilu, &counts);
    OneAtATime fetcher(mixture.experts);
    const std::vector<ExpertWeights> elsewhere(13);  // results come from what the fetcher says, and from nothing else
    EXPECT_TRUE(at::equal(ops_->Experts(x, routing, elsewhere, Activation::kSilu, &counts_fetched, &fetcher), all))
        << tokens;
    EXPECT_EQ(counts_fetched, counts);
    EXPECT_EQ(fetcher.acquired, fetcher.expected);
    counts.erase(std::remove(counts.begin(), counts.end(), 0), counts.end());
    EXPECT_EQ(fetcher.rows, counts);
  }
}

TEST_P(FusedExpertsTest, ATokenDoesNotDependOnTheTokensBesideItOrTheThreads) {
  const Mixture mixture = Make(16, 130, 70);
  const at::Tensor x = random_.Tensor({520, 130}, activations());
  const Routing routing = RandomRouting(520, 4, 0, 16);
  const at::Tensor all = ops_->Experts(x, routing, mixture.experts, Activation::kSilu, nullptr);
  for (int64_t rows : {1, 2, 7, 16, 300}) {
    SetTeam(static_cast<int>(1 + rows % 4));
    const Routing part{routing.experts.narrow(0, 11, rows).contiguous(),
                       routing.weights.narrow(0, 11, rows).contiguous()};
    EXPECT_TRUE(at::equal(ops_->Experts(x.narrow(0, 11, rows), part, mixture.experts, Activation::kSilu, nullptr),
                          all.narrow(0, 11, rows)))
        << rows << " rows";
  }
  SetTeam(2);
}

// Weights that no grouped kernel knows are computed one by one.
TEST_P(FusedExpertsTest, ExpertsOfSeveralKindsOfWeights) {
  Mixture mixture = Make(3, 24, 8);
  const at::Tensor x = random_.Tensor({6, 24}, activations());
  const Routing routing = RandomRouting(6, 2, 0, 3);
  ReferenceOps reference;
  auto other = reference.NewLinear(24, 8, false, activations(), at::kCPU);
  other->SetRows(0, mixture.down[1].to(dtype()));
  mixture.experts[1].down = other.get();
  ExpectNear(ops_->Experts(x, routing, mixture.experts, Activation::kSilu, nullptr), Expected(x, routing, mixture),
             "mixed");
}

}  // namespace
}  // namespace causeway
