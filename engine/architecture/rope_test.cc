#include "engine/architecture/rope.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Floats between the two values.
int64_t FloatDistance(double a, double b) {
  const float fa = static_cast<float>(a), fb = static_cast<float>(b);
  EXPECT_EQ(double{fa}, a) << "not a float32";
  int32_t ia, ib;
  std::memcpy(&ia, &fa, 4);
  std::memcpy(&ib, &fb, 4);
  return std::abs(int64_t{ia} - int64_t{ib});
}

// The field's power function may be off by one unit in the last place, and each division after it can add one more.
constexpr int64_t kDistanceMax = 2;

void ExpectSame(const std::vector<double>& ours, const Json& theirs, int64_t distance_max, const std::string& name) {
  ASSERT_EQ(ours.size(), theirs.size()) << name;
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_LE(FloatDistance(ours[i], theirs[i].get<double>()), distance_max) << name << ", frequency " << i;
  }
}

RopeSpec Read(const Json& config, absl::Status* status, std::optional<double> partial = std::nullopt) {
  ConfigReader reader(config, "config.json");
  const int64_t heads = config.value("num_attention_heads", 1);
  RopeSpec spec = ReadRope(reader, {.head_dim = config.value("head_dim", config.value("hidden_size", 64) / heads),
                                    .max_positions = config.value("max_position_embeddings", 2048),
                                    .partial = partial});
  *status = reader.status();
  return spec;
}

TEST(RopeTest, EqualsTheFieldInEveryVariant) {
  const auto cases = ReadJsonFile(CAUSEWAY_SOURCE_DIR "/engine/architecture/testdata/rope.json", 1 << 20);
  ASSERT_TRUE(cases.ok()) << cases.status();
  ASSERT_GT(cases->size(), 20u);
  int switching = 0, exact = 0, all = 0;
  for (const Json& c : *cases) {
    const std::string name = c["name"];
    absl::Status status;
    const RopeSpec spec = Read(c["config"], &status);
    ASSERT_TRUE(status.ok()) << name << ": " << status;
    ExpectSame(spec.inv_freq, c["inv_freq"], kDistanceMax, name);
    for (size_t i = 0; i < spec.inv_freq.size(); ++i) exact += spec.inv_freq[i] == c["inv_freq"][i].get<double>();
    all += static_cast<int>(spec.inv_freq.size());
    EXPECT_DOUBLE_EQ(spec.attention_factor, c["attention_factor"].get<double>()) << name;
    if (!c.contains("at")) {
      EXPECT_EQ(InvFreqAt(spec, 1'000'000), spec.inv_freq) << name;
      continue;
    }
    ++switching;
    for (const auto& [length, inv_freq] : c["at"].items()) {
      // The base itself is computed in float32 there: its last unit shifts every frequency by a few.
      ExpectSame(InvFreqAt(spec, std::stoll(length)), inv_freq, 8, name + " at " + length);
    }
  }
  EXPECT_GE(switching, 6);
  RecordProperty("frequencies", all);
  RecordProperty("equal to the last bit", exact);
  EXPECT_GT(exact, all * 9 / 10) << "of " << all;
}

TEST(RopeTest, PartialRotaryShortensTheTableWhereTheArchitectureKnowsIt) {
  const Json config = Json::parse(R"({"hidden_size": 64, "partial_rotary_factor": 0.25})");
  absl::Status status;
  const RopeSpec spec = Read(config, &status, /*partial=*/1);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(spec.dim, 16);
  EXPECT_EQ(spec.inv_freq.size(), 8u);
  EXPECT_NEAR(spec.inv_freq[1], std::pow(10000.0, -2.0 / 16), 1e-7);
  const RopeSpec inside = Read(
      Json::parse(R"({"hidden_size": 64, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})"),
      &status, 1);
  EXPECT_EQ(inside.dim, 32);
}

struct Refusal {
  std::string config;
  std::string message;
};

TEST(RopeTest, NamesWhatIsWrong) {
  const Refusal invalid[] = {
      {R"({"rope_scaling": {"type": "linear"}})",
       "rope_scaling: factor: expected a number above 0, at most 1e+30, found nothing"},
      {R"({"rope_scaling": {"type": "linear", "factor": 0}})",
       "rope_scaling: factor: expected a number above 0, at most 1e+30, found 0"},
      {R"({"rope_scaling": {"type": "linear", "factor": "2"}})",
       "factor: expected a number above 0, at most 1e+30, found \"2\""},
      {R"({"rope_scaling": "linear"})", "rope_scaling: expected an object, found \"linear\""},
      {R"({"rope_parameters": {"rope_type": 3}})", "rope_type: expected a string, found 3"},
      {R"({"rope_theta": 1e200})", "rope_theta: expected a number above 0, at most 1e+30, found 1e+200"},
      {R"({"rope_theta": -1})", "rope_theta: expected a number above 0, at most 1e+30, found -1"},
      {R"({"rope_scaling": {"type": "dynamic"}})", "factor: expected a number above 0, at most 1e+30, found nothing"},
      {R"({"rope_scaling": {"type": "dynamic", "factor": 0.5}})",
       "factor: dynamic rope expects a number from 1 on, found 0.5"},
      {R"({"hidden_size": 2, "rope_scaling": {"type": "dynamic", "factor": 2}})",
       "more than 2 rotary dimensions, found 2"},
      {R"({"hidden_size": 7})", "rotary dimensions: expected an even number, found 7"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8}})",
       "low_freq_factor: expected a number above 0, at most 1e+30, found nothing"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}})",
       "high_freq_factor: expected more than low_freq_factor (4), found 1"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 0}})",
       "original_max_position_embeddings: expected a whole number"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": 1}})",
       "truncate: expected true or false, found 1"},
      {R"({"hidden_size": 4, "rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": 3}})",
       "rope_scaling: long_factor: expected a list of numbers above 0, at most 1e+30, found 3"},
      {R"({"hidden_size": 4, "rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": [1, 0]}})",
       "rope_scaling: long_factor: expected a list of numbers above 0, at most 1e+30, found [1,0]"},
      {R"({"hidden_size": 4, "rope_scaling": {"type": "longrope", "short_factor": [1, 2, 3], "long_factor": [1, 2]}})",
       "rope_scaling: short_factor: expected 2 numbers, found 3"},
      {R"({"hidden_size": 4, "rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": [1, 2], "original_max_position_embeddings": 1}})",
       "original_max_position_embeddings: longrope needs more than 1, found 1"},
      {R"({"rope_scaling": {"type": "proportional", "partial_rotary_factor": 1.5}})",
       "partial_rotary_factor: expected a number up to 1, found 1.5"},
      {R"({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 2}})", "yarn needs more than 1, found 1"},
  };
  for (const Refusal& refusal : invalid) {
    absl::Status status;
    Read(Json::parse(refusal.config), &status);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.config;
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message)) << refusal.config;
  }
  const Refusal unsupported[] = {
      {R"({"rope_scaling": {"type": "axial", "factor": 2}})",
       "rope_type \"axial\" is not supported; expected default, linear, dynamic, llama3, yarn, longrope or "
       "proportional"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2, "mrope_section": [16, 24, 24]}})",
       "mrope_section = [16,24,24] changes the computation"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
       "rope_parameters.full_attention: frequencies of their own"},
      {R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})",
       "partial_rotary_factor = 0.5 changes the computation"},
  };
  for (const Refusal& refusal : unsupported) {
    absl::Status status;
    Read(Json::parse(refusal.config), &status);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << refusal.config;
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message)) << refusal.config;
  }
}

TEST(RopeTest, KeysThatDoNothingAreWarnedOf) {
  const Json config = Json::parse(R"({"rope_scaling": {"type": "linear", "factor": 2, "beta_fast": 3}})");
  ConfigReader reader(config, "config.json");
  ReadRope(reader, {.head_dim = 64, .max_positions = 128});
  EXPECT_TRUE(reader.ok());
  EXPECT_THAT(reader.warnings(), ElementsAre("config.json: rope_scaling: unknown key beta_fast is ignored"));
}

}  // namespace
}  // namespace causeway
