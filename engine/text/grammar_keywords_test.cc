// Tests schemas by hand: keywords that ask for nothing, those that cannot be followed, formats, names and white space.
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/text/grammar_testing.h"
#include "tests/support/exact_json.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

TEST(GrammarKeywords, ThoseThatAskForNothingAreNoObstacle) {
  const TestVocabulary vocabulary;
  for (const char* keyword :
       {R"("uniqueItems": false)", R"("dependentRequired": {})", R"("dependentRequired": {"a": []})",
        R"("dependentSchemas": {"a": true})", R"("dependencies": {})", R"("propertyNames": true)",
        R"("propertyNames": {})", R"("unevaluatedProperties": true)", R"("unevaluatedItems": true)", R"("not": false)",
        R"("then": {"type": "null"})", R"("if": {"type": "null"})", R"("minContains": 2)",
        R"("contains": {"type": "null"}, "minContains": 0)", R"("$comment": "c", "x-mine": [1], "deprecated": true)",
        R"("contentMediaType": "text/plain")", R"("$dynamicAnchor": "a")"}) {
    const std::string schema = absl::StrCat(R"({"type": "array", "items": {"type": "integer"}, )", keyword, "}");
    const auto matcher = vocabulary.Schema(schema);
    ASSERT_TRUE(matcher.ok()) << schema << "\n" << matcher.status();
    EXPECT_TRUE(Accepts(**matcher, vocabulary, "[1,1]")) << schema;
    EXPECT_FALSE(Accepts(**matcher, vocabulary, R"(["x"])")) << schema;
  }
  for (const char* keyword :
       {R"("uniqueItems": true)", R"("dependentRequired": {"a": ["b"]})", R"("propertyNames": {"pattern": "a"})",
        R"("unevaluatedProperties": false)", R"("not": {"type": "null"})", R"("if": true, "then": {"type": "null"})",
        R"("contains": {"type": "null"})", R"("$dynamicRef": "#a")"}) {
    const std::string schema = absl::StrCat("{", keyword, "}");
    EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, schema), ::testing::StartsWith("cannot be followed: "))
        << schema;
  }
}

TEST(GrammarKeywords, OneOfIsTakenAsAnyOfOnlyWhereAsked) {
  const TestVocabulary vocabulary;
  const std::string one_of = R"("oneOf": [{"type": "integer"}, {"type": "number"}])";
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, absl::StrCat("{", one_of, "}")),
              HasSubstr(R"("x-guidance": {"coerce_one_of": true})"));
  const auto matcher = vocabulary.Schema(absl::StrCat("{", one_of, R"(, "x-guidance": {"coerce_one_of": true}})"));
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  EXPECT_TRUE(Accepts(**matcher, vocabulary, "1"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, R"({"x-guidance": {"coerce_oneof": true}})"),
              HasSubstr("x-guidance has \"coerce_oneof\", expected "));
}

TEST(GrammarKeywords, OneOfIsFollowedWhereItsSchemasAreApart) {
  const TestVocabulary vocabulary;
  for (const char* branches : {R"({"const": 5}, {"type": "object"})", R"({"const": 5}, {"enum": ["a", 6]})",
                               R"({"type": "null"}, {"type": "string"})",
                               R"({"type": "number", "exclusiveMaximum": 5}, {"type": "number", "minimum": 5})",
                               R"({"const": 4}, {"type": "integer", "minimum": 5})",
                               R"({"required": ["k"], "type": "object", "properties": {"k": {"const": 1}}},
           {"required": ["k"], "type": "object", "properties": {"k": {"enum": [2, 3]}}})"}) {
    const std::string schema = absl::StrCat(R"({"oneOf": [)", branches, "]}");
    const auto matcher = vocabulary.Schema(schema);
    EXPECT_TRUE(matcher.ok()) << schema << "\n" << matcher.status();
  }
  for (const char* branches :
       {R"({"const": 5}, {"type": "integer"})", R"({"type": "array"}, {"maxItems": 3})", "true, true",
        R"({"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]})"}) {
    const std::string schema = absl::StrCat(R"({"oneOf": [)", branches, "]}");
    EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, schema),
                ::testing::StartsWith("oneOf: two of its schemas may hold at once"));
  }
}

// What another reader would take for a second value of a listed property, or for no JSON.
TEST(GrammarKeywords, NamesHaveOneSpelling) {
  const TestVocabulary vocabulary;
  const auto matcher =
      vocabulary.Schema(R"({"type": "object", "properties": {"a": {"type": "integer"}, "b/c": {"type": "integer"}}})");
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  EXPECT_TRUE(Accepts(**matcher, vocabulary, R"({"a":1,"b/c":2,"d":"x"})"));
  for (const char* text : {R"({"\u0061":"x"})", R"({"b\/c":"x"})", R"({"\ud800":1})", R"({"a":1,"a":2})"})
    EXPECT_FALSE(Accepts(**matcher, vocabulary, text)) << text;
  const auto odd =
      vocabulary.Schema("{\"properties\": {\"\x7f\\n\\\"\": {\"type\": \"integer\"}}, \"type\": \"object\"}");
  ASSERT_TRUE(odd.ok()) << odd.status();
  EXPECT_TRUE(Accepts(**odd, vocabulary, "{\"\x7f\\n\\\"\":1}"));
  EXPECT_FALSE(Accepts(**odd, vocabulary, "{\"\\u007f\\u000a\\\"\":\"x\"}"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, R"({"type": "object", "minProperties": 2})"),
              HasSubstr("minProperties is 2, and there are 0 listed ones"));
  const auto both = vocabulary.Schema(
      R"({"type": "object", "properties": {"ab": {}}, "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": false})");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_TRUE(Accepts(**both, vocabulary, R"({"ab":1,"ac":2})"));
  EXPECT_FALSE(Accepts(**both, vocabulary, R"({"ab":"x"})"));
}

TEST(GrammarKeywords, AllPropertiesThatASchemaMayNameCanBeOptional) {
  const TestVocabulary vocabulary;
  std::string schema = R"({"type": "object", "properties": {"p": {})";
  for (int i = 0; i < 980; ++i) absl::StrAppend(&schema, ",\"p", i, "\":{\"type\":\"integer\"}");
  const auto matcher = vocabulary.Schema(absl::StrCat(schema, "}}"));
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  EXPECT_TRUE(Accepts(**matcher, vocabulary, R"({"p0":1,"p979":2,"x":null})"));
  EXPECT_FALSE(Accepts(**matcher, vocabulary, R"({"p979":"x"})"));
}

// testdata/make_format_cases.py: each format with texts that are of it and texts that are not, as jsonschema's checkers
// say.
TEST(GrammarFormats, AgreeWithJsonschema) {
  const TestVocabulary vocabulary;
  std::ifstream file(CAUSEWAY_SOURCE_DIR "/engine/text/testdata/format_cases.json");
  const nlohmann::json document = nlohmann::json::parse(file);
  int formats = 0, texts = 0;
  for (const auto& [format, cases] : document["formats"].items()) {
    const auto matcher = vocabulary.Schema(absl::StrCat(R"({"type": "string", "format": ")", format, "\"}"));
    ASSERT_TRUE(matcher.ok()) << format << ": " << matcher.status();
    for (const bool valid : {true, false}) {
      for (const nlohmann::json& text : cases[valid ? "valid" : "invalid"]) {
        EXPECT_EQ(Accepts(**matcher, vocabulary, text.dump()), valid) << format << ": " << text;
        ++texts;
      }
    }
    ++formats;
  }
  std::cout << formats << " formats, " << texts << " texts\n";
  EXPECT_GE(formats, 16);
}

TEST(GrammarFormats, OthersAreRefusedByNameUnlessTheyAskForNothing) {
  const TestVocabulary vocabulary;
  EXPECT_THAT(
      vocabulary.Error(GrammarKind::kJsonSchema, R"({"type": "string", "format": "regex"})"),
      ::testing::AllOf(HasSubstr("format is \"regex\", expected one of "), HasSubstr("uri"), HasSubstr("date-time")));
  EXPECT_TRUE(vocabulary.Schema(R"({"type": "integer", "format": "int64"})").ok());
  // As Pydantic's HttpUrl.
  const auto url = vocabulary.Schema(R"({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083})");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_TRUE(Accepts(**url, vocabulary, R"("https://example.org:8080/a/b?c=d#e")"));
  EXPECT_FALSE(Accepts(**url, vocabulary, R"("example.org/a b")"));
}

// However much a vocabulary and its model like it, white space ends.
TEST(GrammarWhitespace, IsBounded) {
  const TestVocabulary vocabulary;
  const auto object = vocabulary.compiler->Compile({GrammarKind::kJsonObject, {}});
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_TRUE(Accepts(**object, vocabulary, "{\n  \"a\": [\n\t1,\r\n 2\n  ], \"b\": {}\n}"));
  EXPECT_FALSE(Accepts(**object, vocabulary, "{  \"a\": 1}"));
  EXPECT_FALSE(Accepts(**object, vocabulary, absl::StrCat("{\n", std::string(65, ' '), "\"a\": 1}")));
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  for (const bool greedy : {true, false}) {
    const auto copy = *(*object)->Clone();
    int blanks = 0;
    for (int i = 0; i < 300 && !(greedy && blanks > 200); ++i) {
      const Allowed allowed = Mask(*copy, vocabulary);
      int32_t next = -1;
      for (const int32_t token : allowed.tokens) {
        const std::string text = *vocabulary.tokenizer->Decode(std::vector<int32_t>{token}, false);
        if (!text.empty() && std::all_of(text.begin(), text.end(), blank)) next = token;
      }
      if (next < 0) break;
      ++blanks;
      ASSERT_TRUE(copy->Accept(next).ok());
    }
    EXPECT_LE(blanks, 140);  // behind { and before }
  }
}

TEST(GrammarWhitespace, IsSwitchedOffByTheRequestOrTheSchema) {
  const TestVocabulary vocabulary;
  for (const GrammarSource& source : std::vector<GrammarSource>{
           {GrammarKind::kJsonObject, {}, true},
           {GrammarKind::kJsonSchema, {R"({"type": "object"})"}, true},
           {GrammarKind::kJsonSchema, {R"({"type": "object", "x-guidance": {"whitespace_flexible": false}})"}}}) {
    const auto matcher = vocabulary.compiler->Compile(source);
    ASSERT_TRUE(matcher.ok()) << matcher.status();
    EXPECT_TRUE(Accepts(**matcher, vocabulary, R"({"a":[1,{}],"b":" "})"));
    EXPECT_FALSE(Accepts(**matcher, vocabulary, R"({"a": 1})"));
    EXPECT_FALSE(Accepts(**matcher, vocabulary, "{\n}"));
  }
  const auto spaced =
      vocabulary.Schema(R"({"type": "array", "x-guidance": {"whitespace_flexible": false, "item_separator": ", "}})");
  ASSERT_TRUE(spaced.ok()) << spaced.status();
  EXPECT_TRUE(Accepts(**spaced, vocabulary, "[1, 2]"));
  EXPECT_FALSE(Accepts(**spaced, vocabulary, "[1,2]"));
  const auto wide = vocabulary.Schema(R"({"type": "array", "x-guidance": {"whitespace_pattern": "[ x]{0,3}"}})");
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_TRUE(Accepts(**wide, vocabulary, "[   1,  2 ]"));
  EXPECT_FALSE(Accepts(**wide, vocabulary, "[    1]"));
  EXPECT_FALSE(Accepts(**wide, vocabulary, "[x1]")) << "no JSON";
}

}  // namespace
}  // namespace causeway
