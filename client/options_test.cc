#include "client/options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
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

TEST(OptionsTest, OneValueAUse) {
  CLI::App app;
  SamplingFlags flags;
  std::string prompt;
  flags.AddTo(app);
  app.add_option("prompt", prompt);
  app.parse("--stop . --stop-id 3 --logit-bias 5:1 --stop-id 4 --stop ; --logit-bias 6:2 beginning");
  EXPECT_THAT(flags.stop, ElementsAre(".", ";"));
  EXPECT_THAT(flags.stop_ids, ElementsAre(3, 4));
  EXPECT_THAT(flags.logit_bias, ElementsAre("5:1", "6:2"));
  EXPECT_EQ(prompt, "beginning");
}

TEST(OptionsTest, WhatIsGivenAsNothingIsGiven) {
  for (const char* option : {"--regex", "--json-schema", "--grammar"}) {
    CLI::App app;
    SamplingFlags flags;
    flags.AddTo(app);
    app.parse(std::vector<std::string>{"", option});  // in reverse order
    v1::GenerateRequest request;
    const absl::Status filled = flags.Fill(request);
    if (std::string(option) == "--regex") {
      EXPECT_EQ(request.grammar().kind_case(), v1::GrammarOptions::kRegex);
    } else {
      EXPECT_EQ(filled.message(), std::string(option) + ": \"\" cannot be read: No such file or directory");
    }
  }
}

TEST(OptionsTest, NumbersHaveARange) {
  const auto check = NumberBetween(0.5, 100);
  for (const char* good : {"0.5", "100", "1e1"}) EXPECT_EQ(check(good), "") << good;
  for (const char* bad : {"0", "101", "-1", "nan", "inf", "-inf", "", "1s"})
    EXPECT_THAT(check(bad), HasSubstr("is not a number in [0.5, 100]")) << bad;
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
  EXPECT_THAT(std::string(ParseLayers("0,five").status().message()), HasSubstr("\"five\" is no layer"));
  EXPECT_FALSE(ParseLayers("1,").ok());
  EXPECT_THAT(*ParseLayers("0,5,-1"), ElementsAre(0, 5, -1));
  EXPECT_TRUE(ParseLayers("all")->empty());
}

}  // namespace
}  // namespace causeway
