#include "engine/execution/candidate_counts.h"

#include <memory>

#include <gtest/gtest.h>

namespace causeway {
namespace {

class NoConstraint final : public TokenConstraint {
 public:
  bool Soon(int64_t) const override { return true; }
  TokenMask Await(int64_t) override { return {}; }
  void Chosen(int64_t, int32_t) override {}
};

StepSequence Starting(int32_t slot, const SamplingParams& sampling) {
  auto start = std::make_shared<SequenceStart>();
  start->sampling = sampling;
  return {.slot = slot, .sample = true, .start = start};
}

class CandidateCountsTest : public ::testing::Test {
 protected:
  int64_t Of(std::vector<StepSequence> sequences) {
    StepPlan plan;
    plan.sequences = std::move(sequences);
    return counts_.Of(plan);
  }
  int64_t Alone(const SamplingParams& sampling) { return Of({Starting(0, sampling)}); }

  const SamplingParams kGreedy{.temperature = 0};
  CandidateCounts counts_{4, 32'000, 2};
};

TEST_F(CandidateCountsTest, FollowTheParameters) {
  EXPECT_EQ(Alone(kGreedy), 1);
  EXPECT_EQ(Alone({.temperature = 0.7, .top_k = 40, .top_p = 0.9, .min_p = 0.1, .typical_p = 0.8}), 40);
  EXPECT_EQ(Alone({.temperature = 0.7, .top_k = 1024}), 1024);
  EXPECT_EQ(Alone({.temperature = 0.7, .top_k = 1025}), 0);
  EXPECT_EQ(Alone({.temperature = 0.7}), 0);
  EXPECT_EQ(Alone({.temperature = 0.7, .top_p = 0.9}), 0);
  EXPECT_EQ(Alone({.temperature = 0, .logprobs = true}), 0);
  EXPECT_EQ(Alone({.temperature = 0, .prompt_logprobs = true}), 0);
  EXPECT_EQ(Alone({.temperature = 0, .repetition_penalty = 1.1}), 0);
  EXPECT_EQ(Alone({.temperature = 0, .logit_bias = {{3, 1.0f}}}), 0);
}

TEST_F(CandidateCountsTest, AStepHasThoseThatItsNeediestRowNeeds) {
  const SamplingParams top_k{.temperature = 1, .top_k = 40};
  EXPECT_EQ(Of({Starting(0, kGreedy), Starting(1, top_k)}), 40);
  // What is known of a slot holds for later steps.
  EXPECT_EQ(Of({{.slot = 0, .sample = true}}), 1);
  EXPECT_EQ(Of({{.slot = 0, .sample = true}, {.slot = 1, .sample = true}}), 40);
  EXPECT_EQ(Of({{.slot = 0, .sample = true}, {.slot = 1}}), 1) << "the second does not sample";
  EXPECT_EQ(Of({{.slot = 0, .sample = true}, Starting(2, {.temperature = 1})}), 0);
  EXPECT_EQ(Of({{.slot = 2}}), 0) << "nothing is sampled";
  EXPECT_EQ(Of({Starting(2, kGreedy)}), 1) << "the slot has a new owner";
}

TEST_F(CandidateCountsTest, WholeRowsWhereTokensAreRuledOutOrLogitsAskedFor) {
  StepSequence constrained = Starting(0, kGreedy);
  constrained.local.constraint = std::make_shared<NoConstraint>();
  EXPECT_EQ(Of({constrained}), 0);
  EXPECT_EQ(Of({{.slot = 0, .sample = true}}), 0);

  auto start = std::make_shared<SequenceStart>();
  start->sampling = kGreedy;
  start->min_tokens = 2;
  EXPECT_EQ(Of({{.slot = 1, .sample = true, .start = start}}), 1) << "there are no stop ids to mask";
  start->stop_token_ids = {5};
  EXPECT_EQ(Of({{.slot = 1, .sample = true, .start = start}}), 0);
  EXPECT_EQ(Of({{.slot = 1, .sample = true, .generated = 1}}), 0);
  EXPECT_EQ(Of({{.slot = 1, .sample = true, .generated = 2}}), 1);

  EXPECT_EQ(Of({{.slot = 1, .sample = true, .all_logits = true, .generated = 2}}), 0);
  EXPECT_EQ(Of({{.slot = 1, .sample = true, .targets = {4}, .generated = 2}}), 0);
}

TEST_F(CandidateCountsTest, NeverMoreBytesThanTheLogits) {
  StepPlan plan;
  plan.sequences = {Starting(0, {.temperature = 1, .top_k = 40})};
  EXPECT_EQ(CandidateCounts(4, 640, 2).Of(plan), 40);
  EXPECT_EQ(CandidateCounts(4, 639, 2).Of(plan), 0);
  EXPECT_EQ(CandidateCounts(4, 32'000, 1).Of(plan), 0) << "there are no others to tell";
}

}  // namespace
}  // namespace causeway
