#include "engine/plan/ranks.h"

#include <gmock/gmock.h>

#include "engine/plan/plan.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

std::vector<Device> Simulated(int count, int64_t bytes = 16 * kGiB) {
  std::vector<Device> devices;
  for (int i = 0; i < count; ++i)
    devices.push_back({DeviceKind::kSimulated, i, "simulated:" + std::to_string(i), "test", bytes, bytes});
  return devices;
}

ModelSpec Llama7b() {
  return TestSpec({{"model_type", "llama"},
                   {"hidden_size", 4096},
                   {"intermediate_size", 11008},
                   {"num_hidden_layers", 32},
                   {"num_attention_heads", 32},
                   {"num_key_value_heads", 32},
                   {"vocab_size", 32000},
                   {"max_position_embeddings", 4096}},
                  DType::kBF16);
}

TEST(ParseParallelTest, ReadsItsKeysAndRefusesOthersByName) {
  EXPECT_EQ(ParseParallel("")->tp, 1);
  EXPECT_EQ(ParseParallel("tp=4")->tp, 4);
  EXPECT_EQ(ParseParallel(" pp=2 , tp=3")->pp, 2);
  EXPECT_EQ(ParseParallel("dp=2,tp=3")->dp, 2);
  for (const char* wrong : {"tp", "tp=", "tp=0", "tp=-1", "tp=2000", "tp=2x", "ep=2", "2"})
    EXPECT_THAT(std::string(ParseParallel(wrong).status().message()), HasSubstr(wrong)) << wrong;
  EXPECT_THAT(std::string(ParseParallel("tp=2,tp=4").status().message()), HasSubstr("each once at most"));
}

TEST(GroupDevicesTest, NeighboursMakeGroupsWithTheLeastOfTheirBudgets) {
  const std::vector<Device> devices = Simulated(4);
  const Budgets budgets{.bytes = {5, 4, 7, 9}, .is_given = {true, true, false, false}, .cpu_offload_bytes = 100};
  const DeviceGroups groups = *GroupDevices(devices, budgets, {.tp = 2});
  EXPECT_EQ(groups.first[1].name, "simulated:2");
  EXPECT_THAT(groups.budgets.bytes, ElementsAre(4, 7));
  EXPECT_EQ(groups.budgets.cpu_offload_bytes, 50);
  const auto refusal = [&](Parallel parallel) {
    return std::string(GroupDevices(devices, budgets, parallel).status().message());
  };
  EXPECT_EQ(refusal({.pp = 2, .tp = 2}), "");
  EXPECT_EQ(refusal({.tp = 3}),
            "tensor parallelism over groups of 3 needs a multiple of as many devices, and there are 4");
  EXPECT_EQ(refusal({.pp = 3, .tp = 2}), "pp=3 and tp=2 need 6 devices, and there are 4");
  std::vector<Device> mixed = devices;
  mixed[3].kind = DeviceKind::kCuda;
  EXPECT_THAT(std::string(GroupDevices(mixed, budgets, {.tp = 2}).status().message()),
              HasSubstr("simulated:2 and simulated:3 would share layers, and are of different kinds"));
}

// Half of what is cut, all of what is not, and as many blocks on every device.
TEST(RanksTest, APlanForGroupsHasEachRanksShare) {
  const ModelSpec spec = Llama7b();
  PlanOptions options;
  const Plan one = *MakePlan(spec, Simulated(1, 64 * kGiB), options);
  options.parallel.tp = 2;
  const Plan two = *MakePlan(spec, Simulated(2, 32 * kGiB), options);
  ASSERT_EQ(two.segments.size(), 1u);
  EXPECT_THAT(two.segments[0].devices, ElementsAre(0, 1));
  int64_t norms = 0;
  VisitParameters(spec.modules, [&](const std::string& path, const Parameter& parameter) {
    if (path.find("norm") != std::string::npos || path.find("rotary") != std::string::npos) norms += parameter.bytes();
  });
  EXPECT_GT(norms, 0);
  EXPECT_EQ(two.devices[0].weights + two.devices[1].weights, one.devices[0].weights + norms);
  EXPECT_EQ(two.devices[0].weights, two.devices[1].weights);
  EXPECT_EQ(two.devices[0].kv_cache + two.devices[1].kv_cache,
            two.kv_blocks * (one.devices[0].kv_cache / one.kv_blocks));
  EXPECT_EQ(two.kv_bytes_per_token, one.kv_bytes_per_token);
  EXPECT_LT(two.devices[0].activations, one.devices[0].activations);
  for (const DevicePlan& device : two.devices) {
    EXPECT_EQ(device.free, device.budget - device.weights - device.kv_cache - device.activations - device.reserve);
    EXPECT_GE(device.free, 0);
  }
  // Groups follow one another as devices do.
  options.parallel = {.pp = 2, .tp = 2};
  const Plan four = *MakePlan(spec, Simulated(4), options);
  ASSERT_EQ(four.segments.size(), 2u);
  EXPECT_THAT(four.segments[1].devices, ElementsAre(2, 3));
  EXPECT_EQ(four.device_map.at("model.norm"), "2");
}

TEST(RanksTest, ASizeOfTheCacheInBytesIsThatOfAllRanks) {
  PlanOptions options;
  options.max_model_len = 2048;
  options.kv_cache_bytes = 4 * kGiB;
  const Plan one = *MakePlan(Llama7b(), Simulated(1, 64 * kGiB), options);
  options.parallel.tp = 4;
  const Plan four = *MakePlan(Llama7b(), Simulated(4, 64 * kGiB), options);
  EXPECT_EQ(four.kv_blocks, one.kv_blocks);
}

TEST(RanksTest, WhatDoesNotFitIsSaidOfARank) {
  PlanOptions options;
  options.parallel.tp = 2;
  const absl::Status status = MakePlan(Llama7b(), Simulated(2, 4 * kGiB), options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("as one of 2 ranks of its group: "));
  options.parallel.tp = 64;
  EXPECT_THAT(std::string(MakePlan(Llama7b(), Simulated(64), options).status().message()),
              HasSubstr("the model can be cut for groups of 1, 2, 3, 4, "));
}

}  // namespace
}  // namespace causeway
