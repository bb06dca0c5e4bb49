#include "engine/architecture/config_reader.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Text(const ConfigReader& reader) { return std::string(reader.status().message()); }

TEST(ConfigReaderTest, ReadsValuesSpellingsAndDefaults) {
  const Json config =
      Json::parse(R"({"a": 3, "new": 4, "f": 2, "b": true, "s": "x", "n": null, "ids": [1, 2], "id": 5})");
  ConfigReader reader(config, "config.json");
  EXPECT_EQ(reader.Int("a", 1, 10), 3);
  EXPECT_EQ(reader.Int("old|new", 1, 10), 4);
  EXPECT_EQ(reader.Int("n", 1, 10, 7), 7);
  EXPECT_EQ(reader.OptionalInt("absent", 1, 10), std::nullopt);
  EXPECT_EQ(reader.Positive("f"), 2.0);
  EXPECT_EQ(reader.Positive("absent", 0.5), 0.5);
  EXPECT_TRUE(reader.Bool("b", false));
  EXPECT_EQ(reader.String("s", "y"), "x");
  EXPECT_THAT(reader.Ids("ids"), ElementsAre(1, 2));
  EXPECT_THAT(reader.Ids("id"), ElementsAre(5));
  EXPECT_THAT(reader.Ids("absent"), ElementsAre());
  EXPECT_TRUE(reader.ok());
  reader.JudgeUnreadKeys();
  EXPECT_TRUE(reader.ok() && reader.warnings().empty());
}

TEST(ConfigReaderTest, EveryErrorNamesKeyExpectedAndFound) {
  const Json config = Json::parse(
      R"({"a": "3", "b": 11, "c": 1.5, "d": 0, "e": 1, "f": [], "g": "x", "h": 18446744073709551615, "i": {"x": -1}})");
  ConfigReader reader(config, "config.json");
  reader.Int("a", 1, 10);
  reader.Int("b", 1, 10);
  reader.Int("c", 1, 10, 5);
  reader.Positive("d");
  reader.Bool("e", false);
  reader.String("f", "");
  reader.Ids("g");
  reader.Int("h", 0, INT64_MAX);
  reader.Int("missing|older", 1, 10);
  ConfigReader inner = reader.Object("i");
  inner.Positive("x");
  reader.Merge(inner);
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Text(reader),
              AllOf(HasSubstr("config.json: a: expected a whole number from 1 to 10, found \"3\""),
                    HasSubstr("config.json: b: expected a whole number from 1 to 10, found 11"),
                    HasSubstr("config.json: c: expected a whole number from 1 to 10, found 1.5"),
                    HasSubstr("config.json: d: expected a number above 0, at most 1e+30, found 0"),
                    HasSubstr("config.json: e: expected true or false, found 1"),
                    HasSubstr("config.json: f: expected a string, found []"),
                    HasSubstr("config.json: g: expected a token id or a list of them, found \"x\""),
                    HasSubstr("found 18446744073709551615"),
                    HasSubstr("config.json: missing: expected a whole number from 1 to 10, found nothing")));
  EXPECT_THAT(Text(reader), HasSubstr("config.json: i: x: expected a number above 0, at most 1e+30, found -1"));
}

TEST(ConfigReaderTest, KeysNobodyReadAreJudged) {
  const Json config = Json::parse(
      R"({"use_cache": true, "summary_type": "cls_index", "mystery": 1, "quantization_config": {"bits": 4},
      "sliding_window": 4096, "pretraining_tp": 1, "pruned_heads": {}, "add_cross_attention": false, "clip_qkv": null})");
  ConfigReader reader(config, "config.json");
  reader.JudgeUnreadKeys();
  EXPECT_THAT(reader.warnings(), ElementsAre("config.json: unknown key mystery is ignored"));
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Text(reader),
            "config.json: quantization_config = {\"bits\":4} changes the computation and is not supported; "
            "config.json: sliding_window = 4096 changes the computation and is not supported");
}

TEST(ConfigReaderTest, InvalidGoesBeforeUnsupported) {
  const Json config = Json::object();
  ConfigReader reader(config, "config.json");
  reader.Unsupported("later");
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kUnimplemented);
  reader.Invalid("wrong");
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Text(reader), "config.json: wrong; config.json: later");
}

}  // namespace
}  // namespace causeway
