#include "engine/text/grammar.h"

#include <chrono>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/text/grammar_testing.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

const char* const kTokenizers[] = {"gpt2_like", "llama2_like", "llama3_like", "unigram"};

TEST(Grammar, ChoicesAndNothingElse) {
  for (const char* name : kTokenizers) {
    const TestVocabulary vocabulary(name);
    // The last two hold characters that have a meaning in regular expressions and escapes.
    std::vector<std::string> choices = {"yes", "no", "no way", "a|b (c) [d] {e} \\d .* ^$ / # \"q\"",
                                        "line\nbreak\tand ü 語"};
    // Nothing in this vocabulary begins the other choices' odd characters.
    if (std::string(name) == "unigram") choices.resize(3);
    const auto compiled = vocabulary.Compile(GrammarKind::kChoice, choices);
    ASSERT_TRUE(compiled.ok()) << name << ": " << compiled.status();
    std::set<std::string> seen;
    std::mt19937 random(1);
    for (int i = 0; i < 200; ++i) {
      bool ended = false;
      const std::string text = Walk(**(*compiled)->Clone(), vocabulary, random, 200, &ended);
      EXPECT_TRUE(ended) << name;
      EXPECT_THAT(choices, ::testing::Contains(text)) << name;
      seen.insert(text);
    }
    EXPECT_EQ(seen.size(), choices.size()) << name << ": every choice can be made";
  }
}

TEST(Grammar, EndsWhenNothingMayFollow) {
  const TestVocabulary vocabulary;
  const auto matcher = vocabulary.Compile(GrammarKind::kRegex, {"ab?"});
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  const int32_t a = vocabulary.tokenizer->Encode("a", false)->front(),
                b = vocabulary.tokenizer->Encode("b", false)->front();
  EXPECT_FALSE(Mask(**matcher, vocabulary).may_end);
  ASSERT_TRUE((*matcher)->Accept(a).ok());
  Allowed allowed = Mask(**matcher, vocabulary);
  EXPECT_TRUE(allowed.may_end);
  EXPECT_THAT(allowed.tokens, ::testing::ElementsAre(b));
  const auto copy = *(*matcher)->Clone();
  ASSERT_TRUE((*matcher)->Accept(b).ok());
  for (int again = 0; again < 2; ++again) {
    allowed = Mask(**matcher, vocabulary);
    EXPECT_TRUE(allowed.may_end);
    EXPECT_TRUE(allowed.tokens.empty());
  }
  EXPECT_THAT(Mask(*copy, vocabulary).tokens, ::testing::ElementsAre(b)) << "a copy stays where it was";
  EXPECT_FALSE(copy->Accept(a).ok()) << "not what the mask allowed";
}

TEST(Grammar, JsonParses) {
  for (const char* name : kTokenizers) {
    const TestVocabulary vocabulary(name);
    const std::string schema =
        R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, "n": {"type": "integer", "minimum": 3, "maximum": 12}},
            "required": ["name", "n"], "additionalProperties": false, "x-guidance": {"whitespace_flexible": false}})";
    const auto compiled = vocabulary.Compile(GrammarKind::kJsonSchema, {schema});
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    std::mt19937 random(2);
    for (int i = 0; i < 50; ++i) {
      bool ended = false;
      const std::string text = Walk(**(*compiled)->Clone(), vocabulary, random, 300, &ended);
      ASSERT_TRUE(ended) << name << ": " << text;
      const nlohmann::json value = nlohmann::json::parse(text, nullptr, false);
      ASSERT_TRUE(value.is_object()) << name << ": " << text;
      EXPECT_GE(value["n"].get<int>(), 3) << text;
      EXPECT_LE(value["n"].get<int>(), 12) << text;
      EXPECT_TRUE(value["name"].is_string()) << text;
    }
    const auto object = vocabulary.Compile(GrammarKind::kJsonObject, {});
    ASSERT_TRUE(object.ok()) << object.status();
    bool ended = false;
    const std::string text = Walk(**object, vocabulary, random, 20, &ended);
    EXPECT_EQ(text.substr(text.find_first_not_of(" \n\r\t")).front(), '{');
  }
}

TEST(Grammar, LarkNamesSpecialTokens) {
  const TestVocabulary vocabulary;
  const auto matcher = vocabulary.Compile(
      GrammarKind::kLark, {"start: greeting \" \" NAME\ngreeting: \"hello\" | \"hi\"\nNAME: /[A-Z][a-z]{1,3}/"});
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  std::mt19937 random(3);
  bool ended = false;
  EXPECT_THAT(Walk(**matcher, vocabulary, random, 100, &ended), ::testing::MatchesRegex("(hello|hi) [A-Z][a-z]+"));
  EXPECT_TRUE(ended);
}

TEST(Grammar, ErrorsSayWhatAndWhere) {
  const TestVocabulary vocabulary;
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, "{\"type\": "), HasSubstr("line 1 column 9"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, "[1]"),
              HasSubstr("a JSON schema is [1], expected an object, true or false"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, R"({"type": "thing"})"), HasSubstr("thing"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, R"({"type": "integer", "minimum": 5, "maximum": 4})"),
              HasSubstr("nsatisfiable"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, R"({"not": {"type": "string"}})"), HasSubstr("not"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, R"({"items": {"minItems": 100000}})"),
              HasSubstr("minItems is 100000, expected at most 10000"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kLark, "start: \"x\" %json {\"minItems\": 100000}"),
              HasSubstr("minItems is 100000, expected at most 10000"));
  for (const char* multiple : {"999983", "0", "-1", "0.00001", "1.00001"}) {
    EXPECT_THAT(
        vocabulary.Error(GrammarKind::kJsonSchema, absl::StrCat(R"({"type": "number", "multipleOf": )", multiple, "}")),
        HasSubstr("expected a number above 0, at most 10000, of at most 4 decimals"));
  }
  for (const char* multiple : {"10000", "0.01", "0.0001", "0.25", "12.5"}) {
    EXPECT_TRUE(
        vocabulary
            .Compile(GrammarKind::kJsonSchema, {absl::StrCat(R"({"type": "number", "multipleOf": )", multiple, "}")})
            .ok())
        << multiple;
  }
  EXPECT_THAT(TestVocabulary("unigram").Error(GrammarKind::kRegex, "語"), HasSubstr("no token of the vocabulary"));
  const auto names = [](int n, const std::string& each) {
    std::string text;
    for (int i = 0; i < n; ++i) absl::StrAppend(&text, i > 0 ? "," : "", "\"p", i, "\"", each);
    return text;
  };
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, absl::StrCat("{\"properties\": {", names(1100, ":{}"), "}}")),
              HasSubstr("1101 different names of properties and keywords, expected at most 1000"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema, absl::StrCat("{\"required\": [", names(1100, ""), "]}")),
              HasSubstr("expected at most 1000"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kJsonSchema,
                               absl::StrCat("{\"minProperties\": 1, \"properties\": {", names(100, ":{}"), "}}")),
              HasSubstr("102 different names of properties and keywords beside minProperties or maxProperties, "
                        "expected at most 100"));
  EXPECT_THAT(
      vocabulary.Error(GrammarKind::kJsonSchema, absl::StrCat("{\"patternProperties\": {", names(51, ":{}"), "}}")),
      HasSubstr("patternProperties has 51 patterns in all, expected at most 50"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kRegex, "a(b"), HasSubstr("unclosed group"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kLark, "start: missing"), HasSubstr("missing"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kLark, "start: \"a"), HasSubstr("1(10)"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kRegex, "\xff"), HasSubstr("UTF-8"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kRegex, std::string(70'000, 'a')),
              HasSubstr("70000 bytes, expected at most 65536"));
  EXPECT_THAT(vocabulary.Error(GrammarKind::kRegex, std::string(300, '(') + std::string(300, ')')),
              HasSubstr("nest 300 deep"));
}

// Each text is refused, or compiled and followed for a few tokens, or given up there. All of that happens within its
// time and without ending the process.
TEST(Grammar, HostileTextsAreBounded) {
  const TestVocabulary vocabulary;
  const auto repeat = [](const std::string& piece, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) absl::StrAppend(&text, piece);
    return text;
  };
  std::string chain = "start: r0\n", nested = "{\"type\":\"string\"}", all_of = "{\"allOf\":[",
              properties = "{\"type\":\"object\",\"properties\":{", repeated = "{\"prefixItems\":[{}";
  for (int i = 0; i < 3000; ++i) absl::StrAppend(&chain, "r", i, ": r", i + 1, "\n");
  absl::StrAppend(&chain, "r3000: \"a\"\n");
  for (int i = 0; i < 40; ++i)
    nested = absl::StrCat("{\"anyOf\":[", nested,
                          ",{\"type\":\"array\",\"items\":", i % 2 ? "{}" : "{\"type\":\"null\"}", "}]}");
  for (int i = 0; i < 60; ++i)
    absl::StrAppend(&all_of, i > 0 ? "," : "", "{\"oneOf\":[{\"minimum\":", i, "},{\"maximum\":", 100 - i, "}]}");
  all_of += "]}";
  for (int i = 0; i < 500; ++i) absl::StrAppend(&properties, i > 0 ? "," : "", "\"p", i, "\":{\"type\":\"integer\"}");
  properties += "}}";
  for (int i = 0; i < 50; ++i)
    absl::StrAppend(&repeated, ",{\"allOf\":[{\"$ref\":\"#/$defs/b\"},{\"required\":[\"p", i, "\"]}]}");
  absl::StrAppend(&repeated, "],\"$defs\":{\"b\":", properties, "}}");
  // Pairs of patterns, sets of schemas, long numbers, branches to tell apart.
  const auto join = [](int n, const std::function<std::string(int)>& each) {
    std::string text;
    for (int i = 0; i < n; ++i) absl::StrAppend(&text, i > 0 ? "," : "", each(i));
    return text;
  };
  const auto any_of = [&](const char* before) {
    return absl::StrCat(
        "{\"anyOf\":[",
        join(300,
             [&](int i) { return absl::StrCat("{\"type\":\"string\",\"pattern\":\"", before, i, "x*(a|b){9}\"}"); }),
        "]}");
  };
  const std::string pairs = absl::StrCat("{\"allOf\":[", any_of("^.*"), ",", any_of(".*[a-z]"), "]}");
  const std::string sets =
      absl::StrCat("{\"$ref\":\"#/$defs/a0\",\"$defs\":{\"b\":{}",
                   join(200,
                        [](int i) {
                          return absl::StrCat(i == 0 ? "," : "", "\"a", i, "\":{\"maxItems\":", i,
                                              ",\"items\":{\"anyOf\":[{\"$ref\":\"#/$defs/a", (i + 1) % 200,
                                              "\"},{\"allOf\":[{\"$ref\":\"#/$defs/a", (i * 7 + 3) % 200,
                                              "\"},{\"$ref\":\"#/$defs/a", (i * 13 + 5) % 200, "\"}]}]}}");
                        }),
                   "}}");
  const std::string numbers = absl::StrCat(
      "{\"anyOf\":[",
      join(30,
           [](int i) {
             return absl::StrCat("{\"type\":\"number\",\"minimum\":", i + 1, std::string(900, '3'),
                                 ",\"maximum\":", i + 2, std::string(900, '7'), ".", std::string(100, '5'), "}");
           }),
      "]}");
  const std::string branches =
      absl::StrCat("{\"oneOf\":[",
                   join(400,
                        [](int i) {
                          return absl::StrCat(
                              "{\"type\":\"object\",\"required\":[\"k\",\"a\",\"b\"],\"properties\":{\"a\":{},\"b\":"
                              "{\"pattern\":\"a\"},\"k\":{\"const\":",
                              i, "}}}");
                        }),
                   "]}");
  const std::string values = absl::StrCat("{\"enum\":[", join(5000, [](int i) { return absl::StrCat(i); }), "]}");
  // What is read again and again: a number with many zeros, formats, classes of characters in patterns of names.
  const std::string reread =
      absl::StrCat("{\"$defs\":{\"b\":{\"minimum\":-0.", std::string(40'000, '0'), "}},\"oneOf\":[",
                   join(600, [](int i) { return absl::StrCat("{\"$ref\":\"#/$defs/b\",\"const\":", i, "}"); }), "]}");
  const std::string formats = absl::StrCat(
      "{\"anyOf\":[",
      join(1300, [](int i) { return absl::StrCat("{\"format\":\"iri-reference\",\"maxLength\":", i, "}"); }), "]}");
  const std::string classes = absl::StrCat(
      "{\"type\":\"object\",\"patternProperties\":{",
      join(50, [&](int i) { return absl::StrCat("\"^", i, "x", repeat("\\\\p{L}+\\\\P{Ll}", 60), "$\":{}"); }), "}}");
  const std::vector<GrammarSource> hostile = {
      {GrammarKind::kJsonSchema, {reread}},
      {GrammarKind::kJsonSchema, {formats}},
      {GrammarKind::kJsonSchema, {classes}},
      {GrammarKind::kJsonSchema, {pairs}},
      {GrammarKind::kJsonSchema, {sets}},
      {GrammarKind::kJsonSchema, {numbers}},
      {GrammarKind::kJsonSchema, {branches}},
      {GrammarKind::kJsonSchema, {absl::StrCat("{\"allOf\":[", values, ",", values, "]}")}},
      {GrammarKind::kJsonSchema, {absl::StrCat("{\"const\":", std::string(60'000, '7'), "}")}},
      {GrammarKind::kJsonSchema, {"{\"const\":" + repeat("[", 120) + repeat("]", 120) + "}"}},
      {GrammarKind::kRegex, {"(a{1,1000}){1,1000}"}},
      {GrammarKind::kRegex, {"((a?){30}){30}((a?){30}){30}a{1000}"}},
      {GrammarKind::kRegex, {"(.*a.{20}b.*)&(.*c.{20}.*)"}},
      {GrammarKind::kRegex, {"(a|b)*a(a|b){500}"}},
      {GrammarKind::kRegex, {repeat("[ab]", 15'000)}},
      {GrammarKind::kRegex, {repeat("a|", 30'000) + "b"}},
      {GrammarKind::kRegex, {repeat("(a", 199) + repeat(")*", 199)}},
      {GrammarKind::kRegex, {"\\p{L}{1,5000}\\w{5000}"}},
      {GrammarKind::kLark, {chain}},
      {GrammarKind::kLark, {"start: start start | start start start | \"a\" | \"\""}},
      {GrammarKind::kLark, {"start: a\na: b | \"x\"\nb: a\n"}},
      {GrammarKind::kLark, {repeat("(", 199) + repeat("\n", 5000)}},
      {GrammarKind::kLark, {"start: x{100000}\nx: \"a\""}},
      {GrammarKind::kJsonSchema, {repeat("[", 60'000)}},
      {GrammarKind::kJsonSchema, {nested}},
      {GrammarKind::kJsonSchema, {all_of}},
      {GrammarKind::kJsonSchema, {properties}},
      {GrammarKind::kJsonSchema, {repeated}},
      {GrammarKind::kJsonSchema, {R"({"$ref": "#"})"}},
      {GrammarKind::kJsonSchema, {R"({"$ref": "http://localhost:1/schema.json"})"}},
      {GrammarKind::kJsonSchema,
       {R"({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"})"}},
      {GrammarKind::kJsonSchema, {R"({"type": "array", "minItems": 100000000, "maxItems": 1000000000})"}},
      {GrammarKind::kJsonSchema,
       {R"({"properties": {"enum": {"type": "array", "items": {"type": "integer"}, "minItems": 100000000}}})"}},
      {GrammarKind::kJsonSchema, {R"({"default": {"type": "array", "minItems": 100000000}, "$ref": "#/default"})"}},
      {GrammarKind::kLark, {R"(start: %json {"type": "array", "minItems": 100000000})"}},
      {GrammarKind::kJsonSchema, {R"({"type": "integer", "multipleOf": 999983})"}},
      {GrammarKind::kJsonSchema, {R"({"type": "integer", "allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]})"}},
      {GrammarKind::kLark,
       {"start: X\nX: /x/ | /b/ (/(a{7})*/ & /(a{11})*/ & /(a{13})*/ & /(a{17})*/ & /(a{19})*/ & /(a{23})*/ & "
        "/(a{29})*/ & /a+/)"}},
      {GrammarKind::kJsonSchema, {R"({"type": "string", "minLength": 100000000, "maxLength": 1000000000})"}},
      {GrammarKind::kJsonSchema,
       {R"({"type": "number", "multipleOf": 0.000000001, "minimum": -1e300, "maximum": 1e300})"}},
      {GrammarKind::kJsonSchema, {R"({"type": "string", "pattern": "^(([a-z]+)*)*x{1000}$"})"}},
  };
  std::mt19937 random(4);
  for (const GrammarSource& source : hostile) {
    const auto start = std::chrono::steady_clock::now();
    const auto matcher = vocabulary.compiler->Compile(source);
    if (matcher.ok()) {
      std::vector<uint32_t> words(vocabulary.tokenizer->vocab_size() / 32 + 1);
      for (int i = 0; i < 20 && (*matcher)->Mask(absl::MakeSpan(words)).ok(); ++i) {
        int32_t token = static_cast<int32_t>(random() % (words.size() * 32));
        const int32_t first = token;
        do token = (token + 1) % static_cast<int32_t>(words.size() * 32);
        while ((words[token / 32] >> (token % 32) & 1) == 0 && token != first);
        if (token == first || !(*matcher)->Accept(token).ok()) break;
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_LT(seconds, 10) << source.texts[0].substr(0, 60);  // also under sanitizers and on a busy machine
  }
}

TEST(Grammar, NeedsTokensWithATextOfTheirOwn) {
  const auto tokenizer = *Tokenizer::Load(CAUSEWAY_SOURCE_DIR "/engine/text/testdata/tokenizers/word_suffix");
  EXPECT_THAT(std::string(GrammarCompiler::Create(*tokenizer).status().message()), HasSubstr("text of their own"));
}

}  // namespace
}  // namespace causeway
