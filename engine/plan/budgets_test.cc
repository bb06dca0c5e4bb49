#include "engine/plan/budgets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kGB = 1'000'000'000;

std::vector<Device> Devices(absl::string_view text) {
  return *ParseDevices(text, [] { return std::vector<Device>(); });
}
std::string Refusal(absl::string_view devices, absl::string_view max_memory) {
  return std::string(MakeBudgets(Devices(devices), *ParseMaxMemory(max_memory)).status().message());
}

TEST(BudgetsTest, ACpuThatIsNotAtHandIsADeviceOrMemoryBesideDevices) {
  const Budgets alone = *MakeBudgets(Devices("cpu:256GB"), {});
  EXPECT_THAT(alone.bytes, ElementsAre(256 * kGB / 10 * 9));
  EXPECT_EQ(alone.cpu_offload_bytes, 0);
  EXPECT_THAT(MakeBudgets(Devices("cpu:256GB"), *ParseMaxMemory("200GB"))->bytes, ElementsAre(200 * kGB));
  EXPECT_THAT(Refusal("cpu:256GB", "cpu:300GB"),
              HasSubstr("max_memory gives cpu 279.4 GiB, but it has only 238.4 GiB"));

  const auto offload = [](absl::string_view max_memory) {
    return MakeBudgets(Devices("2xL4,cpu:256GB"), *ParseMaxMemory(max_memory))->cpu_offload_bytes;
  };
  EXPECT_EQ(offload(""), 256 * kGB / 10 * 9);
  EXPECT_EQ(offload("20GB"), 256 * kGB / 10 * 9) << "every GPU has a budget, and the CPU its own";
  EXPECT_EQ(offload("0:20GB"), 0) << "devices that are left out are not used";
  EXPECT_EQ(offload("20GB,cpu:100GB"), 100 * kGB);
  EXPECT_THAT(Refusal("2xL4,cpu:256GB", "20GB,cpu:300GB"),
              HasSubstr("max_memory gives cpu 279.4 GiB, but it has only 238.4 GiB"));
  EXPECT_EQ(MakeBudgets(Devices("2xL4"), {})->cpu_offload_bytes, 0) << "nothing is known of their CPU";
}

TEST(BudgetsTest, CpuAutoIsMostOfWhatIsFreeThere) {
  const auto with_auto = [](absl::string_view devices) {
    return *MakeBudgets(Devices(devices), *ParseMaxMemory("20GB,cpu:auto"));
  };
  EXPECT_EQ(with_auto("2xL4,cpu:256GB").cpu_offload_bytes, 256 * kGB / 10 * 9);
  EXPECT_THAT(MakeBudgets(Devices("cpu:64GB"), {{"cpu", kAutoBytes}})->bytes, ElementsAre(64 * kGB / 10 * 9));
  EXPECT_THAT(Refusal("2xL4", "20GB,cpu:auto"), HasSubstr("as in \"2xRTX4090,cpu:256GB\""));
  const int64_t here = with_auto("simulated:1x100GB").cpu_offload_bytes;
  EXPECT_GT(here, 0);
  EXPECT_LT(here, CpuDevice().memory_bytes);
}

TEST(BudgetsTest, WhatGpusHaveNoRoomForGoesToTheCpuNamedBesideThem) {
  const ModelSpec spec = TestLlama({.layers = 32,
                                    .hidden = 4096,
                                    .intermediate = 14336,
                                    .vocab = 128256,
                                    .heads = 32,
                                    .kv_heads = 8,
                                    .context = 8192});
  EXPECT_THAT(PlanRefusal(MakePlan(spec, Devices("1xRTX4080"), {}), absl::StatusCode::kFailedPrecondition),
              HasSubstr("cuda:0"));
  const absl::StatusOr<Plan> plan = MakePlan(spec, Devices("1xRTX4080,cpu:64GB"), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_GT(plan->offloaded_to_cpu, kGB);
  EXPECT_EQ(plan->offloaded_to_disk, 0);
  EXPECT_THAT(PlanRefusal(MakePlan(spec, Devices("1xRTX4080,cpu:1GB"), {}), absl::StatusCode::kFailedPrecondition),
              HasSubstr("CPU memory is short of 2.62 GiB"));

  const absl::StatusOr<Plan> on_cpu = MakePlan(spec, Devices("cpu:64GB"), {});
  ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
  EXPECT_GE(on_cpu->devices[0].weights, TestBytes(spec));
  EXPECT_THAT(PlanRefusal(MakePlan(spec, Devices("cpu:8GB"), {}), absl::StatusCode::kFailedPrecondition),
              testing::Not(HasSubstr("devices 1x")))
      << "GPUs of the catalogue are no other size of a CPU";
}

}  // namespace
}  // namespace causeway
