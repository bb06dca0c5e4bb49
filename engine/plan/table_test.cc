#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "engine/checkpoint/json.h"
#include "engine/plan/plan.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

Plan ThreeDevices() {
  const ModelSpec spec = TestLlama({.layers = 10, .hidden = 64, .intermediate = 256, .vocab = 4096});
  PlanOptions options;
  options.max_num_batched_tokens = 64;
  options.max_memory = {{"0", 4 << 20}, {"1", 8 << 20}};
  options.cpu_threads = 2;
  absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({8 << 20, 8 << 20, 8 << 20}), options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

int Cells(absl::string_view line) {
  int cells = 0;
  for (const char* glyph : {"█", "▓", "▒", "░", "·"}) {
    for (size_t at = line.find(glyph); at != absl::string_view::npos; at = line.find(glyph, at + 1)) ++cells;
  }
  return cells;
}

TEST(PlanTableTest, ARowForEachDeviceWithABarOfOneWidth) {
  const Plan plan = ThreeDevices();
  const std::string table = PlanTable(plan, false);
  const std::vector<std::string> lines = absl::StrSplit(table, '\n');
  EXPECT_THAT(lines[0], HasSubstr("llama, 1.1 M parameters, bf16, device_map auto"));
  EXPECT_THAT(lines[2], HasSubstr("KV cache"));
  EXPECT_THAT(lines[3], testing::AllOf(HasSubstr("simulated:0"), HasSubstr("embeddings"), HasSubstr("4 MiB")));
  EXPECT_THAT(lines[4], testing::AllOf(HasSubstr("simulated:1"), HasSubstr("head"), HasSubstr("8 MiB")));
  EXPECT_EQ(Cells(lines[3]), 32);
  EXPECT_EQ(Cells(lines[4]), 32);
  EXPECT_EQ(Cells(lines[5]), 0) << "without a budget, without a bar";
  EXPECT_THAT(table, HasSubstr("simulated:0 (embeddings, layers 0-"));
  EXPECT_THAT(table, HasSubstr(" → simulated:1 ("));
  EXPECT_THAT(table, testing::ContainsRegex("KV cache: [0-9,]+ tokens \\([0-9,]+ blocks of 16, bf16, 1.25 KiB a "
                                            "token\\): [0-9]+ sequences of 256 tokens"));
  EXPECT_EQ(table.find('\033'), std::string::npos);
}

TEST(PlanTableTest, MarkdownHasTheSameRows) {
  const std::string text = PlanMarkdown(ThreeDevices());
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_EQ(lines[0], "**llama, 1.1 M parameters, bf16, device_map auto**");
  EXPECT_THAT(lines[2], testing::StartsWith("| device | holds | weights |"));
  EXPECT_EQ(lines[3], "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
  EXPECT_THAT(lines[5], testing::StartsWith("| simulated:1 | "));
  EXPECT_THAT(text, HasSubstr("KV cache: "));
}

// Sequences share no block: what the table promises fits.
TEST(PlanTableTest, SequencesAreCountedInWholeBlocks) {
  Plan plan = ThreeDevices();
  plan.options.max_num_seqs = 64;
  plan.options.max_model_len = 8192;
  plan.kv_blocks = 1757;  // 28,112 tokens: 439 for each of 64, but these take 28 blocks of the 27
  EXPECT_THAT(PlanTable(plan, false), HasSubstr("or 64 of 432."));
  plan.kv_blocks = 63;
  EXPECT_THAT(PlanTable(plan, false), testing::Not(HasSubstr("or 64 of")));
}

TEST(PlanTableTest, ColoursChangeNothingElse) {
  const Plan plan = ThreeDevices();
  std::string colored = PlanTable(plan, true), stripped;
  for (size_t i = 0; i < colored.size(); ++i) {
    if (colored[i] == '\033') {
      while (colored[i] != 'm') ++i;
    } else {
      stripped.push_back(colored[i]);
    }
  }
  EXPECT_NE(colored, stripped);
  EXPECT_EQ(stripped, PlanTable(plan, false));
}

TEST(PlanJsonTest, SaysWhatThePlanSays) {
  const Plan plan = ThreeDevices();
  const absl::StatusOr<Json> json = ParseJson(PlanJson(plan), "plan");
  ASSERT_TRUE(json.ok()) << json.status();
  ASSERT_EQ((*json)["devices"].size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const Json& device = (*json)["devices"][i];
    EXPECT_EQ(device["id"], static_cast<int>(i));
    EXPECT_EQ(device["name"], plan.devices[i].device.name);
    EXPECT_EQ(device["weights"], plan.devices[i].weights);
    EXPECT_EQ(device["kv_cache"], plan.devices[i].kv_cache);
    EXPECT_EQ(device["activations"], plan.devices[i].activations);
    EXPECT_EQ(device["reserve"], plan.devices[i].reserve);
    EXPECT_EQ(device["free"], plan.devices[i].free);
  }
  EXPECT_EQ((*json)["device_map"].size(), plan.device_map.size());
  EXPECT_EQ((*json)["device_map"]["model.embed_tokens"], 0) << "numbers, as the field's maps have them";
  ASSERT_EQ((*json)["modules"].size(), plan.modules.size());
  EXPECT_EQ((*json)["modules"][0]["name"], "model.embed_tokens");
  EXPECT_EQ((*json)["modules"][0]["bytes"], 4096 * 64 * 2);
  EXPECT_THAT((*json)["modules"][0]["reason"].get<std::string>(), HasSubstr("fullest"));
  EXPECT_EQ((*json)["kv_cache"]["tokens"], plan.kv_blocks * 16);
  EXPECT_EQ((*json)["kv_cache"]["dtype"], "bf16");
  EXPECT_EQ((*json)["segments"].size(), plan.segments.size());
}

}  // namespace
}  // namespace causeway
