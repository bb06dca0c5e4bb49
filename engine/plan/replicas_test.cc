#include "engine/plan/replicas.h"

#include <gmock/gmock.h>

#include "engine/plan/ranks.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

absl::StatusOr<std::vector<Plan>> Replicas(const std::vector<int64_t>& bytes, const PlanOptions& options) {
  return MakeReplicas(TestLlama({.layers = 4}), TestDevices(bytes), options, nullptr, nullptr);
}

TEST(ReplicasTest, EachHasItsRunOfTheDevicesAndACacheOfItsOwn) {
  PlanOptions options = TestOptions("auto");
  options.parallel = {.dp = 2, .pp = 2};
  const std::vector<Plan> replicas = *Replicas({8 * kMiB, 8 * kMiB, 8 * kMiB, 8 * kMiB}, options);
  ASSERT_EQ(replicas.size(), 2u);
  EXPECT_EQ(replicas[1].devices[1].device.name, "simulated:3");
  EXPECT_EQ(replicas[1].devices[1].device.index, 3);  // runs on its own, whatever maps call it
  EXPECT_EQ(replicas[0].kv_blocks, replicas[1].kv_blocks);
  const Plan all = JoinReplicas(replicas);
  ASSERT_EQ(all.segments.size(), 4u);
  EXPECT_THAT(all.segments[3].devices, ElementsAre(3));
  EXPECT_EQ(all.segments[3].replica, 1);
  EXPECT_EQ(all.kv_blocks, 2 * replicas[0].kv_blocks);
  const std::vector<std::optional<DevicePlace>> places = PlacesOf(all);
  EXPECT_EQ(places[3]->replica, 1);
  EXPECT_EQ(places[3]->stage, 1);
  EXPECT_EQ(places[2]->stage, 0);
}

TEST(ReplicasTest, BudgetsGoByTheDeviceAndMapsByTheFirstReplicas) {
  PlanOptions options = TestOptions("custom");
  options.parallel = {.dp = 2};
  options.custom_map = {{"", "0"}};
  options.max_memory = {{"0", 6 * kMiB}, {"1", 7 * kMiB}};
  const std::vector<Plan> replicas = *Replicas({8 * kMiB, 8 * kMiB}, options);
  EXPECT_EQ(replicas[0].devices[0].budget, 6 * kMiB);
  EXPECT_EQ(replicas[1].devices[0].budget, 7 * kMiB);
  options.max_memory["cpu"] = 10 * kMiB;
  options.custom_map["model.layers.3.mlp"] = "cpu";
  for (const Plan& replica : *Replicas({8 * kMiB, 8 * kMiB}, options)) {
    EXPECT_EQ(replica.options.max_memory.at("cpu"), 5 * kMiB);
    EXPECT_GT(replica.offloaded_to_cpu, 0);
  }
}

TEST(ReplicasTest, WhatCannotBeSharedOutIsSaid) {
  PlanOptions options = TestOptions("auto");
  options.parallel = {.dp = 2};
  EXPECT_EQ(PlanRefusal(Replicas({kMiB, kMiB, kMiB}, options).status(), absl::StatusCode::kInvalidArgument),
            "dp=2 needs a multiple of as many devices, and there are 3");
  EXPECT_THAT(PlanRefusal(Replicas({8 * kMiB, 10'000}, options).status(), absl::StatusCode::kFailedPrecondition),
              AllOf(HasSubstr("replica 1: "), HasSubstr("simulated:1")));
}

}  // namespace
}  // namespace causeway
