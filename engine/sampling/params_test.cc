#include "engine/sampling/params.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(SamplingParams, DefaultsAndBoundsAreValid) {
  EXPECT_TRUE(Validate(SamplingParams{}, 100).ok());
  SamplingParams low;
  low.temperature = 0, low.top_p = 1e-9, low.repetition_penalty = 1e-9, low.presence_penalty = -2,
  low.frequency_penalty = -2;
  low.logit_bias = {{0, -100}, {99, 100}};
  EXPECT_TRUE(Validate(low, 100).ok());
  SamplingParams high;
  high.temperature = 2, high.top_k = 1 << 30, high.min_p = 1, high.presence_penalty = 2, high.frequency_penalty = 2;
  high.top_logprobs = 20;
  EXPECT_TRUE(Validate(high, 100).ok());
}

TEST(SamplingParams, RefusalsNameFieldValueAndRange) {
  struct Case {
    std::function<void(SamplingParams&)> set;
    std::string message;
  };
  const Case cases[] = {
      {[](SamplingParams& p) { p.temperature = 2.5; }, "temperature is 2.5, expected a number in [0, 2]"},
      {[](SamplingParams& p) { p.temperature = 2.0000001; }, "temperature is 2.0000001, expected a number in [0, 2]"},
      {[](SamplingParams& p) { p.logit_bias = {{7, 100.00001f}}; },
       "logit_bias of token 7 is 100.00001, expected a number in [-100, 100]"},
      {[](SamplingParams& p) { p.logit_bias = {{1234567, 1}}; },
       "logit_bias token id is 1234567, expected an id in [0, 100)"},
      {[](SamplingParams& p) { p.temperature = -0.1; }, "temperature is -0.1, expected a number in [0, 2]"},
      {[](SamplingParams& p) { p.temperature = kNan; }, "temperature is nan, expected a number in [0, 2]"},
      {[](SamplingParams& p) { p.temperature = kInf; }, "temperature is inf, expected a number in [0, 2]"},
      {[](SamplingParams& p) { p.top_k = -1; }, "top_k is -1, expected 0 (off) or more"},
      {[](SamplingParams& p) { p.top_p = 0; }, "top_p is 0, expected a number in (0, 1]"},
      {[](SamplingParams& p) { p.top_p = 1.5; }, "top_p is 1.5, expected a number in (0, 1]"},
      {[](SamplingParams& p) { p.top_p = kNan; }, "top_p is nan, expected a number in (0, 1]"},
      {[](SamplingParams& p) { p.min_p = -0.5; }, "min_p is -0.5, expected a number in [0, 1]"},
      {[](SamplingParams& p) { p.typical_p = 0; }, "typical_p is 0, expected a number in (0, 1]"},
      {[](SamplingParams& p) { p.typical_p = kNan; }, "typical_p is nan, expected a number in (0, 1]"},
      {[](SamplingParams& p) { p.min_p = kNan; }, "min_p is nan, expected a number in [0, 1]"},
      {[](SamplingParams& p) { p.repetition_penalty = 0; },
       "repetition_penalty is 0, expected a finite number above 0"},
      {[](SamplingParams& p) { p.repetition_penalty = kInf; },
       "repetition_penalty is inf, expected a finite number above 0"},
      {[](SamplingParams& p) { p.repetition_penalty = kNan; },
       "repetition_penalty is nan, expected a finite number above 0"},
      {[](SamplingParams& p) { p.presence_penalty = 3; }, "presence_penalty is 3, expected a number in [-2, 2]"},
      {[](SamplingParams& p) { p.frequency_penalty = -kInf; },
       "frequency_penalty is -inf, expected a number in [-2, 2]"},
      {[](SamplingParams& p) { p.top_logprobs = 21; }, "top_logprobs is 21, expected a number in [0, 20]"},
      {[](SamplingParams& p) { p.top_logprobs = -1; }, "top_logprobs is -1, expected a number in [0, 20]"},
      {[](SamplingParams& p) { p.logit_bias = {{100, 1}}; }, "logit_bias token id is 100, expected an id in [0, 100)"},
      {[](SamplingParams& p) { p.logit_bias = {{-1, 1}}; }, "logit_bias token id is -1, expected an id in [0, 100)"},
      {[](SamplingParams& p) { p.logit_bias = {{1, 0}, {7, 101}}; },
       "logit_bias of token 7 is 101, expected a number in [-100, 100]"},
      {[](SamplingParams& p) { p.logit_bias = {{7, std::nanf("")}}; },
       "logit_bias of token 7 is nan, expected a number in [-100, 100]"},
  };
  for (const Case& c : cases) {
    SamplingParams params;
    c.set(params);
    const absl::Status status = Validate(params, 100);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_EQ(status.message(), c.message);
  }
}

}  // namespace
}  // namespace causeway
