#include "engine/checkpoint/json.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::Message;
using ::causeway::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(JsonTest, BuildsTheSameTreeAsTheLibrary) {
  const std::string text =
      R"( {"a": [1, -2, 3.5, "x\u00e9", null, true, {"b": {}}], "c": {"d": [[], [0]]}, "e": 18446744073709551615} )";
  const auto ours = ParseJson(text, "t");
  ASSERT_TRUE(ours.ok()) << ours.status();
  EXPECT_EQ(*ours, Json::parse(text));
  EXPECT_EQ(*ParseJson("3", "t"), Json(3));
}

TEST(JsonTest, RefusesEqualKeysAtAnyDepth) {
  EXPECT_THAT(Message(ParseJson(R"({"a": 1, "a": 1})", "config.json").status()),
              AllOf(HasSubstr("config.json"), HasSubstr("\"a\" appears twice")));
  EXPECT_THAT(Message(ParseJson(R"([{"x": {"b": 1, "c": 2, "b": 3}}])", "t").status()),
              HasSubstr("\"b\" appears twice"));
  // The same key, once escaped.
  EXPECT_THAT(Message(ParseJson(R"({"a": 1, "\u0061": 1})", "t").status()), HasSubstr("appears twice"));
  EXPECT_TRUE(ParseJson(R"({"a": {"a": 1}, "b": {"a": 1}})", "t").ok());
}

TEST(JsonTest, BoundsNesting) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(ParseJson(nested(kJsonDepthMax), "t").ok());
  EXPECT_THAT(Message(ParseJson(nested(kJsonDepthMax + 1), "t").status()), HasSubstr("nested deeper than 64"));
  // This must fail on its 65th level, and not on the stack.
  EXPECT_THAT(Message(ParseJson(std::string(5'000'000, '['), "t").status()), HasSubstr("nested deeper than 64"));
}

TEST(JsonTest, BoundsTheNumberOfValues) {
  std::string text = "[0";
  for (size_t i = 0; i < kJsonValuesMax; ++i) text += ",0";
  EXPECT_THAT(Message(ParseJson(text + "]", "t").status()), HasSubstr("more than 8000000"));
}

TEST(JsonTest, SaysWhereTheSyntaxBreaks) {
  EXPECT_THAT(Message(ParseJson("{\"a\": }", "config.json").status()),
              AllOf(HasSubstr("config.json: not valid JSON at byte 7"), HasSubstr("syntax error")));
  EXPECT_FALSE(ParseJson("", "t").ok());
  EXPECT_FALSE(ParseJson("{} {}", "t").ok());
  EXPECT_FALSE(ParseJson("{\"a\": 1,}", "t").ok());
  EXPECT_FALSE(ParseJson("[1e999]", "t").ok());
  EXPECT_FALSE(ParseJson("[NaN]", "t").ok());
  EXPECT_FALSE(ParseJson("\"\xff\"", "t").ok());  // not UTF-8
  // A message never repeats a long file.
  EXPECT_LT(Message(ParseJson("[\"" + std::string(1'000'000, 'x'), "t").status()).size(), 1000u);
}

TEST(JsonTest, EveryPrefixAndEveryFlippedByteEitherParsesOrIsRefused) {
  const std::string text =
      R"({"weight_map": {"a.b": "x.safetensors"}, "n": [1, 2.5e3, -7, true, null, "\ud83d\ude00"]})";
  for (size_t n = 0; n < text.size(); ++n) {
    EXPECT_FALSE(ParseJson(text.substr(0, n), "t").ok()) << n;
    for (int flip : {1, 2, 4, 8, 16, 32, 64, 128}) {
      std::string changed = text;
      changed[n] = static_cast<char>(changed[n] ^ flip);
      const auto parsed = ParseJson(changed, "t");
      if (!parsed.ok()) {
        EXPECT_THAT(Message(parsed.status()), HasSubstr("t: "));
      }
    }
  }
}

TEST(JsonTest, ReadsFilesUpToALimit) {
  TestFolder folder;
  folder.Write("a.json", R"({"a": 1})");
  EXPECT_EQ((*ReadJsonFile(folder / "a.json", 8))["a"], 1);
  const absl::Status large = ReadJsonFile(folder / "a.json", 7).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(large), AllOf(HasSubstr("a.json has 8 bytes"), HasSubstr("at most 7")));
  EXPECT_EQ(ReadJsonFile(folder / "b.json", 8).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadJsonFile(folder.path(), 8).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(JsonTest, DescribesValues) {
  EXPECT_EQ(JsonExcerpt(Json("abc")), "\"abc\"");
  EXPECT_EQ(Printable("a\n\xff'"), "a\\x0a\\xff'");
  EXPECT_EQ(JsonKind(Json(1.5)), "a number");
  EXPECT_LT(JsonExcerpt(Json(std::string(1000, 'x'))).size(), 70u);
}

}  // namespace
}  // namespace causeway
