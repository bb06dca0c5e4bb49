// Random schemas of testdata/make_schema_cases.py. The oracle is jsonschema with exact numbers: it said which texts
// satisfy them, and the checker of this test has to agree with it before it judges what comes out of grammars.
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/text/grammar_testing.h"
#include "tests/support/exact_json.h"
#include "tests/support/schema_check.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

struct SchemaCase {
  std::string schema;
  std::vector<std::string> valid, invalid;
};

const std::vector<SchemaCase>& Cases() {
  static const auto* const cases = [] {
    std::ifstream file(CAUSEWAY_SOURCE_DIR "/engine/text/testdata/schema_cases.json");
    const nlohmann::json document = nlohmann::json::parse(file);
    auto* all = new std::vector<SchemaCase>();
    for (const auto& one : document["cases"])
      all->push_back({one["schema"], one["valid"].get<std::vector<std::string>>(), one["invalid"]});
    return all;
  }();
  return *cases;
}

ExactJson Parse(const std::string& text) {
  const absl::StatusOr<ExactJson> value = ParseExactJson(text);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.value_or(ExactJson());
}

TEST(GrammarSchemas, TheCheckerAgreesWithJsonschema) {
  int texts = 0;
  for (const SchemaCase& one : Cases()) {
    const ExactJson schema = Parse(one.schema);
    for (const std::string& text : one.valid)
      EXPECT_EQ(SchemaViolation(schema, Parse(text)), "") << one.schema << "\n" << text;
    for (const std::string& text : one.invalid)
      EXPECT_NE(SchemaViolation(schema, Parse(text)), "") << one.schema << "\n" << text;
    texts += static_cast<int>(one.valid.size() + one.invalid.size());
  }
  std::cout << Cases().size() << " schemas, " << texts << " texts\n";
  EXPECT_GT(texts, 3000);
}

TEST(GrammarSchemas, WhatSatisfiesIsAcceptedAndNothingElse) {
  const TestVocabulary vocabulary;
  int accepted = 0, rejected = 0, unsatisfiable = 0;
  for (const SchemaCase& one : Cases()) {
    const auto matcher = vocabulary.Schema(one.schema);
    if (!matcher.ok()) {
      EXPECT_THAT(std::string(matcher.status().message()), HasSubstr("unsatisfiable: ")) << one.schema;
      EXPECT_TRUE(one.valid.empty()) << matcher.status() << "\n" << one.schema << "\n" << one.valid[0];
      ++unsatisfiable;
      continue;
    }
    for (const std::string& text : one.valid)
      EXPECT_TRUE(Accepts(**matcher, vocabulary, text)) << one.schema << "\n" << text;
    for (const std::string& text : one.invalid)
      EXPECT_FALSE(Accepts(**matcher, vocabulary, text)) << one.schema << "\n" << text;
    accepted += static_cast<int>(one.valid.size());
    rejected += static_cast<int>(one.invalid.size());
  }
  std::cout << accepted << " texts accepted, " << rejected << " rejected; " << unsatisfiable
            << " schemas are unsatisfiable\n";
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(rejected, 1500);
  EXPECT_LT(unsatisfiable, 60);
}

TEST(GrammarSchemas, WhatEndsSatisfies) {
  const TestVocabulary vocabulary;
  std::mt19937 random(7);
  int walks = 0, ended_walks = 0, schemas = 0;
  for (const SchemaCase& one : Cases()) {
    const auto matcher = vocabulary.Schema(one.schema);
    if (!matcher.ok()) continue;
    const ExactJson schema = Parse(one.schema);
    bool any = false;
    for (int i = 0; i < 8; ++i, ++walks) {
      bool ended = false;
      const std::string text = Walk(**(*matcher)->Clone(), vocabulary, random, 150, &ended, /*hurried=*/i > 1);
      if (!ended) continue;
      any = true;
      ++ended_walks;
      const absl::StatusOr<ExactJson> value = ParseExactJson(text);
      ASSERT_TRUE(value.ok()) << value.status() << "\n" << one.schema;
      EXPECT_EQ(SchemaViolation(schema, *value), "") << one.schema << "\n" << text;
    }
    schemas += any;
  }
  std::cout << ended_walks << " of " << walks << " walks ended, of " << schemas << " schemas, and satisfied them\n";
  EXPECT_GT(ended_walks, 2400);
  EXPECT_GT(schemas, 350);
}

}  // namespace
}  // namespace causeway
