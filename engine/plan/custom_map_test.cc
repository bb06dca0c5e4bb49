#include "engine/plan/custom_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using Map = std::map<std::string, std::string>;

class CustomMapTest : public testing::Test {
 protected:
  std::string Error(const Map& map) {
    const auto checked = CheckCustomMap(index_, devices_, map);
    EXPECT_EQ(checked.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(checked.status().message());
  }
  ModelSpec spec_ = TestLlama({.layers = 3});
  ModuleIndex index_{spec_.modules};
  std::vector<Device> devices_ = TestDevices({100, 100});
};

TEST_F(CustomMapTest, TheLongestPrefixWins) {
  const absl::StatusOr<Map> map =
      CheckCustomMap(index_, devices_, {{"", "simulated:1"}, {"model.layers", "0"}, {"model.layers.2", "1"}});
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(*LookUp(*map, "model.layers.1.mlp.up_proj"), "0");
  EXPECT_EQ(*LookUp(*map, "model.layers.2.mlp.up_proj"), "1");
  EXPECT_EQ(*LookUp(*map, "lm_head"), "1");
}

TEST_F(CustomMapTest, PartsOfABlockOnOneDeviceAreFine) {
  Map map = {{"", "0"},
             {"model.layers.1.mlp", "1"},
             {"model.layers.1.self_attn", "1"},
             {"model.layers.1.input_layernorm", "1"}};
  EXPECT_THAT(Error(map),
              AllOf(HasSubstr("model.layers.1 ("), HasSubstr("post_attention_layernorm"), HasSubstr("block")));
  map["model.layers.1.post_attention_layernorm"] = "1";
  EXPECT_TRUE(CheckCustomMap(index_, devices_, map).ok());
}

TEST_F(CustomMapTest, NamesEveryFaultAtOnce) {
  const std::string error =
      Error({{"model.layer", "0"}, {"transformer.norm", "0"}, {"model.layers", "7"}, {"model.embed_tokens", "cuda:0"}});
  EXPECT_THAT(error, HasSubstr("\"model.layer\" is no module"));
  EXPECT_THAT(error, HasSubstr("did you mean model.norm"));
  EXPECT_THAT(error, HasSubstr("\"7\", which is not among the devices (simulated:0, simulated:1)"));
  EXPECT_THAT(error, HasSubstr("\"cuda:0\""));
  EXPECT_THAT(error, HasSubstr("no entry covers model.norm"));
  EXPECT_THAT(error, HasSubstr("lm_head"));
}

TEST_F(CustomMapTest, OfManyFaultsAFewAreNamed) {
  Map map;
  for (int i = 0; i < 1000; ++i) map[absl::StrCat("model.wrong.", i)] = "0";
  const std::string error = Error(map);
  EXPECT_THAT(error, HasSubstr("; and 992 more; "));
  EXPECT_LT(error.size(), 2000u);
}

TEST_F(CustomMapTest, BuffersNeedNoEntry) {
  EXPECT_TRUE(
      CheckCustomMap(index_, devices_,
                     {{"model.embed_tokens", "0"}, {"model.layers", "0"}, {"model.norm", "1"}, {"lm_head", "1"}})
          .ok());
}

TEST_F(CustomMapTest, EmptyMap) { EXPECT_THAT(Error({}), HasSubstr("empty")); }

TEST_F(CustomMapTest, PrefixesEndAtDots) {
  const ModelSpec large = TestLlama({.layers = 12});
  const ModuleIndex index(large.modules);
  const absl::StatusOr<Map> map = CheckCustomMap(index, devices_, {{"", "0"}, {"model.layers.1", "1"}});
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(*LookUp(*map, "model.layers.11"), "0");
  EXPECT_EQ(*LookUp(*map, "model.layers.1"), "1");
}

}  // namespace
}  // namespace causeway
