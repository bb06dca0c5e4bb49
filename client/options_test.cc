#include "client/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(OptionsTest, OnlyWhatWasGivenIsSent) {
  SamplingFlags flags;
  v1::GenerateRequest request;
  ASSERT_TRUE(flags.Fill(request).ok());
  EXPECT_FALSE(request.sampling().has_temperature());
  EXPECT_FALSE(request.stop().has_max_tokens());
  flags.temperature = 0;
  flags.logit_bias = {"5:-100", "6:2.5"};
  ASSERT_TRUE(flags.Fill(request).ok());
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_FLOAT_EQ(request.sampling().logit_bias().at(6), 2.5);
}

TEST(OptionsTest, NamesWhatIsMalformed) {
  SamplingFlags flags;
  flags.logit_bias = {"five"};
  v1::GenerateRequest request;
  EXPECT_THAT(std::string(flags.Fill(request).message()), HasSubstr("\"five\": expected ID:BIAS"));
  EXPECT_THAT(std::string(ParseTokenIds("1,x").status().message()), HasSubstr("\"x\" is no token id"));
  EXPECT_FALSE(ParseTokenIds("-3").ok());
  EXPECT_FALSE(ParseTokenIds(" ").ok());
  EXPECT_THAT(*ParseTokenIds("1, 2\n3"), ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace causeway
