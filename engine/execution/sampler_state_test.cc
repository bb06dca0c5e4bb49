#include "engine/execution/sampler_state.h"

#include <gmock/gmock.h>

namespace causeway {
namespace {

using ::testing::ElementsAre;

std::shared_ptr<SequenceStart> Start() {
  auto start = std::make_shared<SequenceStart>();
  start->sampling.frequency_penalty = 1;
  start->sampling.seed = 5;
  start->tokens = {1, 1, 2, 3};
  start->prompt_tokens = 3;
  start->min_tokens = 3;
  start->stop_token_ids = {0};
  return start;
}

TEST(SamplerStateTest, ATokenThatComesLateIsNotTheNewOwners) {
  SamplerState state(2, 5);
  StepSequence old{.sequence = 1, .slot = 1, .sample = true, .generated = 1, .start = Start()};
  ASSERT_TRUE(state.Begin(old).ok());
  EXPECT_TRUE(state.FollowsTokens(old));
  StepSequence owner = old;
  owner.sequence = 2;
  ASSERT_TRUE(state.Begin(owner).ok());
  state.Sampled(old, 4);
  TokenMask mask;
  EXPECT_THAT(*state.Row(owner, &mask).output_counts, ElementsAre(0, 0, 0, 1, 0));
  EXPECT_EQ(state.last_tokens()[1], 0);
}

TEST(SamplerStateTest, CountsFollowPromptAndOutput) {
  SamplerState state(2, 5);
  StepSequence sequence{.sequence = 1, .slot = 1, .sample = true, .generated = 1, .start = Start()};
  ASSERT_TRUE(state.Begin(sequence).ok());
  TokenMask mask;
  SampleRow row = state.Row(sequence, &mask);
  EXPECT_THAT(*row.prompt_counts, ElementsAre(0, 2, 1, 0, 0));
  EXPECT_THAT(*row.output_counts, ElementsAre(0, 0, 0, 1, 0));
  EXPECT_EQ(row.uniform, UniformAt(5, 1));
  EXPECT_THAT(*row.masked, ElementsAre(0));
  state.Sampled(sequence, 4);
  sequence.start = nullptr;
  sequence.generated = 3;
  ASSERT_TRUE(state.Begin(sequence).ok());
  row = state.Row(sequence, &mask);
  EXPECT_THAT(*row.output_counts, ElementsAre(0, 0, 0, 1, 1));
  EXPECT_EQ(row.masked, nullptr);  // min_tokens are there
  EXPECT_EQ(state.last_tokens()[1], 4);
}

TEST(SamplerStateTest, ANewStartReplacesTheSlotsFormerSequence) {
  SamplerState state(1, 5);
  StepSequence sequence{.sequence = 1, .slot = 0, .sample = true, .start = Start()};
  ASSERT_TRUE(state.Begin(sequence).ok());
  state.Sampled(sequence, 4);
  auto plain = std::make_shared<SequenceStart>();
  StepSequence next{.sequence = 2, .slot = 0, .sample = true, .start = plain};
  ASSERT_TRUE(state.Begin(next).ok());
  TokenMask mask;
  const SampleRow row = state.Row(next, &mask);
  EXPECT_EQ(row.params, &plain->sampling);
  EXPECT_EQ(row.output_counts, nullptr);  // no parameter needs them
}

TEST(SamplerStateTest, SamplingWithoutAStartIsAnError) {
  SamplerState state(1, 5);
  EXPECT_FALSE(state.Begin({.sequence = 1, .slot = 0, .sample = true}).ok());
  EXPECT_TRUE(state.Begin({.sequence = 1, .slot = 0, .sample = false}).ok());
  ASSERT_TRUE(state.Begin({.sequence = 1, .slot = 0, .sample = true, .start = Start()}).ok());
  state.Clear();
  EXPECT_FALSE(state.Begin({.sequence = 1, .slot = 0, .sample = true}).ok());
}

}  // namespace
}  // namespace causeway
