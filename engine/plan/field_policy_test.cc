#include "engine/plan/field_policy.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using Map = std::map<std::string, std::string>;

absl::StatusOr<Map> FieldPlan(const ModuleIndex& index, FieldStrategy strategy,
                              const std::map<std::string, int64_t>& max_memory) {
  std::vector<FieldBudget> devices;
  for (const auto& [key, bytes] : max_memory) {
    if (key != "cpu") devices.push_back({key, bytes});
  }
  std::sort(devices.begin(), devices.end(),
            [](const FieldBudget& a, const FieldBudget& b) { return std::stoi(a.key) < std::stoi(b.key); });
  absl::StatusOr<std::vector<int64_t>> caps = FieldCaps(index, devices, strategy);
  if (!caps.ok()) return caps.status();
  for (size_t i = 0; i < devices.size(); ++i) devices[i].bytes = (*caps)[i];
  if (auto cpu = max_memory.find("cpu"); cpu != max_memory.end()) devices.push_back({"cpu", cpu->second});
  return MergeUpwards(FieldFill(index, devices).device_map);
}

FieldStrategy StrategyNamed(const std::string& name) {
  if (name == "balanced") return FieldStrategy::kBalanced;
  return name == "sequential" ? FieldStrategy::kSequential : FieldStrategy::kBalancedLow0;
}

// testdata/make_maps.py wrote the file with transformers; CAUSEWAY_MAPS names a larger one.
TEST(FieldPolicyTest, MapsOfTransformersToTheModule) {
  const char* path = std::getenv("CAUSEWAY_MAPS");
  const absl::StatusOr<Json> golden =
      ReadJsonFile(path != nullptr ? path : CAUSEWAY_SOURCE_DIR "/engine/plan/testdata/maps.json", size_t{1} << 27);
  ASSERT_TRUE(golden.ok()) << golden.status();
  std::map<std::string, ModelSpec> specs;
  int cases = 0, spills = 0, splits = 0;
  for (const Json& one : (*golden)["cases"]) {
    const Json& config = (*golden)["models"][one["model"].get<int>()];
    const std::string key = config.dump() + one["dtype"].get<std::string>();
    if (!specs.count(key)) specs[key] = TestSpec(config, *DTypeFromName(one["dtype"].get<std::string>()));
    const ModuleIndex index(specs[key].modules);
    ASSERT_EQ(index.node(0).bytes, one["bytes"].get<int64_t>()) << key;
    std::map<std::string, int64_t> budgets = one["max_memory"];
    const absl::StatusOr<Map> map = FieldPlan(index, StrategyNamed(one["strategy"]), budgets);
    ++cases;
    if (one["map"].is_null()) {
      EXPECT_EQ(map.status().code(), absl::StatusCode::kInvalidArgument) << one.dump();
      continue;
    }
    ASSERT_TRUE(map.ok()) << map.status() << one.dump();
    EXPECT_EQ(*map, one["map"].get<Map>()) << one.dump();
    splits += map->size() > 1;
    spills += std::any_of(map->begin(), map->end(),
                          [](const auto& entry) { return entry.second == "disk" || entry.second == "cpu"; });
  }
  // The file covers what it is meant to cover.
  EXPECT_GT(cases, 100);
  EXPECT_GT(spills, 40);
  EXPECT_GT(splits, 40);
}

// Blocks of 100 bytes, for rules one by one.
Parameter Weight(const std::string& name, int64_t bytes, const std::string& tied_to = "") {
  return {.name = name, .dtype = DType::kU8, .shape = {bytes}, .buffer = false, .tied_to = tied_to};
}
Module Part(const std::string& name, int64_t bytes, const std::string& tied_to = "") {
  Module module;
  module.name = name;
  module.parameters.push_back(Weight("weight", bytes, tied_to));
  return module;
}
Module Group(const std::string& name, std::vector<Module> children, bool block = false) {
  Module module;
  module.name = name;
  module.block = block;
  module.children = std::move(children);
  return module;
}
Module Block(const std::string& name, int64_t bytes) {
  return Group(name, {Part("a", bytes / 2), Part("b", bytes - bytes / 2)}, true);
}

TEST(FieldPolicyTest, SequentialHoldsBackTheLargestUnitOnTheFirstGpuOnly) {
  const Module root = Group("", {Group("m", {Block("0", 100), Block("1", 100), Block("2", 100), Block("3", 100)})});
  const ModuleIndex index(root);
  // On 0, 300 less the 100 held back: two blocks. On 1, without a reservation: two blocks in 200.
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kSequential, {{"0", 300}, {"1", 200}}),
              UnorderedElementsAre(Pair("m.0", "0"), Pair("m.1", "0"), Pair("m.2", "1"), Pair("m.3", "1")));
  // A byte less each, and a block moves on: from 0 to 1, from 1 to disk.
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kSequential, {{"0", 299}, {"1", 299}}),
              UnorderedElementsAre(Pair("m.0", "0"), Pair("m.1", "1"), Pair("m.2", "1"), Pair("m.3", "disk")));
  // A module that holds every unit leaves nothing to reserve for: whole, it may fill the GPU.
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kSequential, {{"0", 400}}), UnorderedElementsAre(Pair("m", "0")));
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kSequential, {{"0", 399}}),
              UnorderedElementsAre(Pair("m.0", "0"), Pair("m.1", "0"), Pair("m.2", "disk"), Pair("m.3", "disk")));
}

TEST(FieldPolicyTest, GpuOfBudgetZeroIsMainAndTakesNothing) {
  const Module root = Group("", {Group("m", {Block("0", 100), Block("1", 100)})});
  const ModuleIndex index(root);
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kBalanced, {{"0", 0}, {"1", 200}}), UnorderedElementsAre(Pair("", "1")));
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kSequential, {}), UnorderedElementsAre(Pair("m", "disk")));
}

TEST(FieldPolicyTest, TiedWeightsGoTogether) {
  const Module root = Group(
      "", {Group("m", {Part("embed", 200), Block("0", 100), Block("1", 100)}), Part("head", 200, "m.embed.weight")});
  const ModuleIndex index(root);
  EXPECT_EQ(index.node(0).bytes, 400);
  const Map map = *FieldPlan(index, FieldStrategy::kSequential, {{"0", 399}, {"1", 200}});
  EXPECT_THAT(map, UnorderedElementsAre(Pair("m.embed", "0"), Pair("m.0", "1"), Pair("m.1", "1"), Pair("head", "0")));
}

TEST(FieldPolicyTest, TiedPartnerIsSplitFirst) {
  // The first module fits alone but not with the whole of "m", which holds a weight tied to it: "m" is split in its
  // place.
  Module m = Group("m", {Part("tied", 50, "first.weight"), Block("0", 100), Block("1", 100)});
  const Module root = Group("", {Part("first", 50), std::move(m)});
  const ModuleIndex index(root);
  EXPECT_THAT(*FieldPlan(index, FieldStrategy::kSequential, {{"0", 150}, {"1", 200}}),
              UnorderedElementsAre(Pair("first", "0"), Pair("m.tied", "0"), Pair("m.0", "1"), Pair("m.1", "1")));
}

TEST(FieldPolicyTest, CapsOfBalanced) {
  const Module root = Group("", {Part("embed", 60), Group("m", {Block("0", 100), Block("1", 100), Block("2", 100)})});
  const ModuleIndex index(root);
  // 360 / 2 + int(1.25 * 100), the last GPU as it is.
  EXPECT_THAT(*FieldCaps(index, {{"0", 1000}, {"1", 1000}}, FieldStrategy::kBalanced), ElementsAre(305, 1000));
  EXPECT_THAT(*FieldCaps(index, {{"0", 1000}, {"1", 0}, {"2", 50}, {"3", 1000}}, FieldStrategy::kBalanced),
              ElementsAre(245, 0, 50, 1000));
  EXPECT_THAT(*FieldCaps(index, {{"0", 1000}, {"1", 0}}, FieldStrategy::kBalanced), ElementsAre(1000, 0));
  EXPECT_THAT(*FieldCaps(index, {{"0", 1000}, {"1", 1000}}, FieldStrategy::kSequential), ElementsAre(1000, 1000));
  // 360 / 2 + 125 for the middle one; 0 gets what the others leave.
  EXPECT_THAT(*FieldCaps(index, {{"0", 1000}, {"1", 1000}, {"2", 40}}, FieldStrategy::kBalancedLow0),
              ElementsAre(15, 305, 40));
  EXPECT_THAT(*FieldCaps(index, {{"0", 1000}, {"1", 1000}}, FieldStrategy::kBalancedLow0), ElementsAre(0, 1000));
  EXPECT_EQ(FieldCaps(index, {{"1", 1000}, {"2", 1000}}, FieldStrategy::kBalancedLow0).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(*FieldCaps(index, {{"1", 1000}}, FieldStrategy::kBalancedLow0), ElementsAre(1000));
}

TEST(FieldPolicyTest, EveryPlacementHasAReason) {
  const ModelSpec spec = TestLlama({.layers = 6});
  const ModuleIndex index(spec.modules);
  const PartMap map = FieldFill(index, {{"0", index.node(0).bytes / 2}, {"1", index.node(0).bytes / 4}});
  ASSERT_EQ(map.device_map.size(), map.reasons.size());
  for (const auto& [path, device] : map.device_map) {
    EXPECT_FALSE(map.reasons.at(path).empty()) << path;
    if (device == "disk") {
      EXPECT_THAT(map.reasons.at(path), testing::HasSubstr("no device has room"));
    }
  }
}

}  // namespace
}  // namespace causeway
