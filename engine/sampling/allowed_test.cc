// Masks of allowed tokens, as grammars make them.
#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/sampling/sampler.h"

namespace causeway {
namespace {

std::vector<float> Logits() {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(100);
  for (float& x : logits) x = normal(random);
  return logits;
}

TEST(Processors, OnlyAllowedTokensAreChosen) {
  const std::vector<float> logits = Logits();
  std::vector<uint32_t> allowed = {0, 1u << 5, ~0u};  // allows 37 and 64 to 95; the rest has no words or no bits
  const std::vector<std::pair<double, double>> ways = {{0, 1}, {1, 1}, {1, 0.9}};
  for (const auto& [temperature, top_p] : ways) {
    SamplingParams params;
    params.temperature = temperature, params.top_p = top_p;
    params.logit_bias = {{3, 100}, {99, 100}};
    params.logprobs = true;
    for (int i = 0; i < 300; ++i) {
      std::vector<float> row = logits;
      SampleRow sample;
      sample.params = &params;
      sample.allowed = allowed;
      sample.uniform = i / 300.0;
      SampleScratch scratch;
      const SampleOutput output = SampleOne(absl::MakeSpan(row), sample, scratch);
      ASSERT_TRUE(output.token == 37 || (output.token >= 64 && output.token < 96)) << output.token;
      if (temperature == 0) {
        EXPECT_EQ(logits[output.token],
                  std::max(logits[37], *std::max_element(logits.begin() + 64, logits.begin() + 96)));
      }
      EXPECT_GT(output.logprob, -50) << "of the raw row";
    }
  }
}

TEST(Processors, WhatIsChosenOfNothingIsNotAllowed) {
  std::vector<uint32_t> allowed = {0, 1u << 5};
  SamplingParams params;
  SampleRow sample;
  sample.params = &params;
  EXPECT_TRUE(Allows(sample, 0));
  sample.allowed = allowed;
  EXPECT_TRUE(Allows(sample, 37));
  for (int32_t token : {0, 36, 38, 64, 1000}) EXPECT_FALSE(Allows(sample, token)) << token;
  std::vector<float> row = Logits();
  row[37] = std::nanf("");
  SampleScratch scratch;
  EXPECT_FALSE(Allows(sample, SampleOne(absl::MakeSpan(row), sample, scratch).token));
}

}  // namespace
}  // namespace causeway
