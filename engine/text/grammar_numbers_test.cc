// Schemas by hand: numbers that a double does not hold, references, keywords that ask for nothing, and what is refused,
// by name.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/text/grammar_testing.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Case {
  std::string schema;
  std::vector<std::string> accepted, rejected;
};

void Check(const TestVocabulary& vocabulary, const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    const auto matcher = vocabulary.Schema(one.schema);
    EXPECT_TRUE(matcher.ok()) << one.schema << "\n" << matcher.status();
    if (!matcher.ok()) continue;
    for (const std::string& text : one.accepted)
      EXPECT_TRUE(Accepts(**matcher, vocabulary, text)) << one.schema << "\n" << text;
    for (const std::string& text : one.rejected)
      EXPECT_FALSE(Accepts(**matcher, vocabulary, text)) << one.schema << "\n" << text;
  }
}

TEST(GrammarNumbers, KeepAllTheirDigits) {
  const std::string many = "1" + std::string(300, '0') + "7", more = "1" + std::string(300, '0') + "8";
  Check(
      TestVocabulary(),
      {
          {R"({"const": 123456789012345678})", {"123456789012345678"}, {"123456789012345680", "123456789012345677"}},
          {R"({"enum": [1234567890123456789, 1234567890123456788]})",
           {"1234567890123456789", "1234567890123456788"},
           {"1234567890123456787", "1234567890123456800"}},
          {R"({"const": {"id": [-98765432109876543210, {"n": 0.1234567890123456789}]}})",
           {R"({"id":[-98765432109876543210,{"n":0.1234567890123456789}]})"},
           {R"({"id":[-98765432109876543210,{"n":0.12345678901234568}]})"}},
          {absl::StrCat(R"({"const": )", many, "}"), {many}, {more}},
          {absl::StrCat(R"({"type": "integer", "minimum": )", many, "}"), {many, more}, {"1" + std::string(301, '0')}},
          {R"({"type": "integer", "minimum": 9007199254740993})", {"9007199254740993"}, {"9007199254740992"}},
          {R"({"type": "integer", "maximum": 9007199254740993})", {"9007199254740993"}, {"9007199254740994"}},
          {R"({"type": "integer", "exclusiveMinimum": 9007199254740993, "exclusiveMaximum": 9007199254740996})",
           {"9007199254740994", "9007199254740995"},
           {"9007199254740993", "9007199254740996"}},
          {R"({"type": "integer", "minimum": 9223372036854775807})",
           {"9223372036854775807", "9223372036854775808"},
           {"9223372036854775806"}},
          {R"({"type": "integer", "minimum": -9223372036854775808})",
           {"-9223372036854775808", "0", "9223372036854775808"},
           {"-9223372036854775809"}},
          {R"({"type": "integer", "minimum": -9223372036854775809, "maximum": -9223372036854775807})",
           {"-9223372036854775809", "-9223372036854775808", "-9223372036854775807"},
           {"-9223372036854775810", "-9223372036854775806"}},
          {R"({"type": "integer", "maximum": 18446744073709551615})",
           {"18446744073709551615", "-1"},
           {"18446744073709551616"}},
          {R"({"type": "integer", "minimum": 100000000000000000001})",
           {"100000000000000000001"},
           {"100000000000000000000", "9223372036854775807"}},
          {R"({"type": "integer", "minimum": 1e19})", {"10000000000000000000"}, {"9999999999999999999"}},
          {R"({"type": "integer", "minimum": 1e20, "maximum": 100000000000000000010, "multipleOf": 7})",
           {"100000000000000000005"},
           {"100000000000000000006", "100000000000000000012"}},
          {R"({"type": "number", "minimum": 1e19})", {"10000000000000000000.5"}, {"9999999999999999999.9"}},
          {R"({"type": "number", "exclusiveMinimum": 0.1234567890123456789, "maximum": 0.1234567890123456790})",
           {"0.12345678901234567891", "0.123456789012345679"},
           {"0.1234567890123456789", "0.12345678901234567901"}},
          {R"({"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308})",
           {"0", "-1", "1.5"},
           {"2" + std::string(308, '0')}},
      });
}

TEST(GrammarNumbers, AreTheirValuesHoweverTheyAreWritten) {
  Check(
      TestVocabulary(),
      {
          {R"({"const": 1.0})", {"1"}, {"1.5"}},
          {R"({"const": 0.1})", {"0.1"}, {"0.2"}},
          {R"({"const": -0})", {"0"}, {"1"}},
          {R"({"const": 1.5e2, "type": "integer"})", {"150"}, {"15"}},
          {R"({"enum": [1, 1.0, 10e-1], "type": "integer"})", {"1"}, {"2"}},
          {R"({"enum": [0.5, "a", 7e0, null], "type": ["integer", "string"]})", {"7", R"("a")"}, {"0.5", "null"}},
          {R"({"enum": ["a", 7], "type": "string"})", {R"("a")"}, {"7"}},
          {R"({"type": "integer", "minimum": 1.5, "maximum": 2.5})", {"2"}, {"1", "3"}},
          {R"({"type": "integer", "exclusiveMinimum": -2.5, "exclusiveMaximum": 1e0})", {"-2", "0"}, {"-3", "1"}},
          {R"({"type": "integer", "minimum": 5, "exclusiveMinimum": true})", {"6"}, {"5"}},
          {R"({"type": "array", "minItems": 1.0, "maxItems": 2e0})", {"[1]", "[1,2]"}, {"[]", "[1,2,3]"}},
          {R"({"type": "string", "minLength": 1.0, "maxLength": 0.2e1})", {R"("a")", R"("ab")"}, {R"("")", R"("abc")"}},
          {R"({"type": "object", "maxProperties": 1.0})", {"{}", R"({"a":1})"}, {R"({"a":1,"b":2})"}},
          {R"({"minimum": 3, "minimum": 5, "type": "integer"})", {"5"}, {"4"}},  // as other readers: the last counts
          {R"({"type": "integer", "default": 1e999, "examples": [1e9999]})", {"3"}, {"x"}},
          {R"({"type": "number", "multipleOf": 0.25, "maximum": -0.25})", {"-0.5", "-0.25", "-7"}, {"-0.3", "0.5"}},
          {R"({"type": "integer", "multipleOf": 1000})", {"0", "5000", "-7000"}, {"500", "5001"}},
          {R"({"type": "number", "multipleOf": 0.0001})", {"1.2345", "2", "2.5"}, {"1.23456"}},
          {R"({"allOf": [{"type": "integer"}, {"multipleOf": 4}, {"multipleOf": 6}, {"minimum": 1}]})",
           {"12", "24"},
           {"4", "6", "0"}},
          {R"({"oneOf": [{"type": "integer", "minimum": 9007199254740993}, {"type": "integer", "maximum": 9007199254740992}]})",
           {"9007199254740992", "9007199254740993"},
           {"1.5"}},
      });
}

TEST(GrammarNumbers, WhatCannotBeHeldIsRefusedByName) {
  const TestVocabulary vocabulary;
  const auto error = [&](const std::string& schema) { return vocabulary.Error(GrammarKind::kJsonSchema, schema); };
  const std::string held = "expected a number of at most 1000 digits before the point and 1000 behind it";
  EXPECT_EQ(error(R"({"const": 1e1000})"), absl::StrCat("a value of const or enum is 1e1000, ", held));
  EXPECT_EQ(error(R"({"type": "number", "minimum": 1e-1001})"), absl::StrCat("minimum is 1e-1001, ", held));
  EXPECT_EQ(error(R"({"type": "number", "exclusiveMaximum": 1e99999999999999999999})"),
            absl::StrCat("exclusiveMaximum is 1e99999999999999999999, ", held));
  EXPECT_EQ(error(R"({"type": "integer", "maximum": "5"})"), "maximum is \"5\", expected a number");
  EXPECT_EQ(error(R"({"multipleOf": -1})"),
            "multipleOf is -1, expected a number above 0, at most 10000, of at most 4 decimals");
  EXPECT_THAT(error(R"({"multipleOf": 1e-5})"), HasSubstr("multipleOf is 1e-5, expected a number above 0"));
  EXPECT_EQ(error(R"({"minItems": -1})"), "minItems is -1, expected a whole number of 0 or more");
  EXPECT_EQ(error(R"({"maxLength": 1.5})"), "maxLength is 1.5, expected a whole number of 0 or more");
  EXPECT_EQ(error(R"({"minItems": 1e5})"), "minItems is 1e5, expected at most 10000");
  EXPECT_EQ(error(R"({"minLength": 1e10})"), "minLength is 1e10, expected at most 4294967294");
  EXPECT_EQ(
      error(R"({"type": "integer", "minimum": 9007199254740993, "maximum": 9007199254740992})"),
      R"(unsatisfiable: nothing satisfies {"type":"integer","minimum":9007199254740993,"maximum":9007199254740992})");
  EXPECT_THAT(
      error(R"({"type": "integer", "minimum": 1e20, "exclusiveMaximum": 100000000000000000005, "multipleOf": 7})"),
      HasSubstr("unsatisfiable: "));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kLark, R"(start: %json {"const": 123456789012345678})"),
              AllOf(HasSubstr("%json has 123456789012345678"), HasSubstr("at most 15 digits")));
}

TEST(GrammarReferences, LeadWhereTheyPoint) {
  Check(
      TestVocabulary(),
      {
          {R"({"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"})", {"1"}, {R"("x")"}},
          {R"({"$defs": {"a~b": {"type": "integer"}}, "$ref": "#/$defs/a~0b"})", {"1"}, {R"("x")"}},
          {R"({"$defs": {"a b": {"type": "integer"}}, "$ref": "#/$defs/a%20b"})", {"1"}, {R"("x")"}},
          {R"({"$defs": {"a%b": {"type": "integer"}}, "$ref": "#/$defs/a%25b"})", {"1"}, {R"("x")"}},
          {R"({"$defs": {"~1": {"type": "integer"}}, "$ref": "#/$defs/~01"})", {"1"}, {R"("x")"}},
          {R"({"$defs": {"ü": {"type": "integer"}}, "$ref": "#/$defs/%C3%BC"})", {"1"}, {R"("x")"}},
          {R"({"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"type": "integer"}}, "$ref": "#/definitions/a"})",
           {"1"},
           {R"("x")"}},
          {R"({"$defs": {"a": {"$anchor": "here", "type": "integer"}}, "$ref": "#here"})", {"1"}, {R"("x")"}},
          {R"({"$defs": {"a": {"anyOf": [{"type": "null"}, {"type": "integer"}]}}, "$ref": "#/$defs/a/anyOf/1"})",
           {"1"},
           {"null"}},
          {R"({"$id": "https://x.org/s/root.json", "$defs": {"a": {"$id": "a.json", "$defs": {"b": {"type": "integer"}},
                 "$ref": "#/$defs/b"}}, "$ref": "https://x.org/s/a.json"})",
           {"1"},
           {R"("x")"}},
          {R"({"$id": "https://x.org/s/root.json", "$defs": {"a": {"$id": "/t/a.json", "$anchor": "n", "type": "integer"}},
                 "$ref": "/t/a.json#n"})",
           {"1"},
           {R"("x")"}},
          {R"({"type": "object", "properties": {"n": {"$ref": "#/$defs/n", "minimum": 3}}, "required": ["n"],
                 "additionalProperties": false, "$defs": {"n": {"type": "integer", "maximum": 5}}})",
           {R"({"n":3})", R"({"n":5})"},
           {R"({"n":2})", R"({"n":6})"}},
          // A schema that contains itself, with something beside the reference.
          {R"({"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t", "maxItems": 1}}}, "$ref": "#/$defs/t"})",
           {"[]", "[[],[[]]]"},
           {"[[[],[]]]", "[1]"}},
      });
}

TEST(GrammarReferences, EndlessOrMissingOnesSaySo) {
  const TestVocabulary vocabulary;
  const auto error = [&](const std::string& schema) { return vocabulary.Error(GrammarKind::kJsonSchema, schema); };
  EXPECT_EQ(error(R"({"$ref": "#"})"), R"($ref "#" leads back to its own place without end)");
  EXPECT_THAT(
      error(R"({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}})"),
      HasSubstr("leads back to its own place without end"));
  EXPECT_THAT(error(R"({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}})"),
              HasSubstr("$ref \"#/$defs/a\" leads back to its own place without end"));
  EXPECT_EQ(error(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})"),
            "unsatisfiable: property \"a\": it contains itself without end");
  EXPECT_EQ(error(R"({"$ref": "#/$defs/a"})"), "$ref \"#/$defs/a\": there is nothing of that name");
  EXPECT_EQ(error(R"({"$ref": "#a"})"), "$ref \"#a\": there is nothing of that name");
  EXPECT_EQ(error(R"({"$ref": "http://localhost:1/schema.json"})"),
            "$ref \"http://localhost:1/schema.json\": no $id of the schema says this, and nothing outside it is read");
}

}  // namespace
}  // namespace causeway
