#include "engine/plan/auto_policy.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

// Items of these bytes, nothing else.
StageCosts CostsOf(const std::vector<int64_t>& bytes, const std::vector<int64_t>& block_bytes = {}, int idle = -1) {
  std::vector<int64_t> sums = {0}, block_sums = {0};
  for (size_t i = 0; i < bytes.size(); ++i) {
    sums.push_back(sums.back() + bytes[i]);
    block_sums.push_back(block_sums.back() + (block_bytes.empty() ? 0 : block_bytes[i]));
  }
  StageCosts costs;
  costs.items = static_cast<int>(bytes.size());
  costs.of = [sums, block_sums, idle](int first, int last) {
    return StageCost{.fixed_bytes = sums[last + 1] - sums[first],
                     .block_bytes = block_sums[last + 1] - block_sums[first],
                     .computes = first != idle || last != idle};
  };
  return costs;
}

std::vector<int64_t> StageBytes(const std::vector<int64_t>& bytes, const Partition& partition, int stages) {
  std::vector<int64_t> sums(stages, 0);
  for (size_t i = 0; i < bytes.size(); ++i) sums[partition.device_of_item[i]] += bytes[i];
  return sums;
}

// The nodes of GPT-1.5B as published tables count them: V = 50257, h = 1600, 48 layers, fp32.
std::vector<int64_t> Gpt15B() {
  constexpr int64_t kVocab = 50257, kHidden = 1600, kLayers = 48;
  std::vector<int64_t> bytes = {kVocab * kHidden * 4};
  bytes.insert(bytes.end(), kLayers, (12 * kHidden * kHidden + 2 * kHidden) * 4);
  bytes.push_back(kHidden * 4);
  bytes.push_back(kVocab * kHidden * 4);
  return bytes;
}

TEST(AutoPolicyTest, CutsOfGpt15B) {
  const std::vector<int64_t> bytes = Gpt15B();
  ASSERT_EQ(bytes.size(), 51u);
  const int64_t total = std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
  ASSERT_EQ(total / 4, 1'635'537'600);
  EXPECT_NEAR(total / 1048576.0, 6239.08, 0.005);
  const StageCosts costs = CostsOf(bytes);
  struct {
    int stages;
    double fullest_mib, cv_least, cv_most;
  } rows[] = {{2, 3119.54, 0, 0.00005},
              {4, 1595.95, 0.02315, 0.02325},
              {6, 1054.80, 0.02025, 0.02035},
              {8, 820.40, 0.0605, 0.0615}};
  for (const auto& row : rows) {
    const std::vector<StageDevice> devices(row.stages, {int64_t{8} << 30, 0});
    const Partition cut = BestPartition(costs, devices, 0);
    const std::vector<int64_t> sums = StageBytes(bytes, cut, row.stages);
    EXPECT_NEAR(*std::max_element(sums.begin(), sums.end()) / 1048576.0, row.fullest_mib, 0.005) << row.stages;
    const double mean = static_cast<double>(total) / row.stages;
    double squares = 0;
    for (const int64_t sum : sums) squares += (sum - mean) * (sum - mean);
    const double cv = std::sqrt(squares / row.stages) / mean;
    EXPECT_GE(cv, row.cv_least) << row.stages;
    EXPECT_LE(cv, row.cv_most) << row.stages;
  }
}

// All ways to give items in order to devices in order.
void AllPartitions(int items, int devices, std::vector<int>& chosen,
                   const std::function<void(const std::vector<int>&)>& visit) {
  if (static_cast<int>(chosen.size()) == items) return visit(chosen);
  for (int d = chosen.empty() ? 0 : chosen.back(); d < devices; ++d) {
    chosen.push_back(d);
    AllPartitions(items, devices, chosen, visit);
    chosen.pop_back();
  }
}

struct Measured {
  double fullest = 0, spread = 0;
  int64_t blocks = 0;
};
Measured Measure(const StageCosts& costs, const std::vector<StageDevice>& devices, const std::vector<int>& chosen,
                 int64_t blocks, int64_t wanted) {
  struct Run {
    StageCost cost;
    StageDevice device;
  };
  std::vector<Run> runs;
  for (int first = 0; first < costs.items;) {
    int last = first;
    while (last + 1 < costs.items && chosen[last + 1] == chosen[first]) ++last;
    runs.push_back({costs.of(first, last), devices[chosen[first]]});
    first = last + 1;
  }
  const auto stages = std::count_if(runs.begin(), runs.end(), [](const Run& run) { return run.cost.computes; });
  Measured measured;
  measured.blocks = wanted;
  for (const auto& [cost, device] : runs) {
    const int64_t fixed = cost.fixed_bytes + (cost.computes ? device.reserve + costs.handoff_bytes[stages] : 0);
    const double fraction = device.budget == 0 ? 1e300
                                               : static_cast<double>(fixed + blocks * cost.block_bytes) /
                                                     static_cast<double>(device.budget);
    measured.fullest = std::max(measured.fullest, fraction);
    measured.spread += fraction * fraction + (cost.computes ? 0 : 1e6);  // a last resort
    const int64_t left = device.budget - fixed;
    measured.blocks = std::min(measured.blocks, left < 0 || device.budget == 0 ? -1
                                                : cost.block_bytes == 0        ? wanted
                                                                               : left / cost.block_bytes);
  }
  return measured;
}

TEST(AutoPolicyTest, EqualsBruteForce) {
  std::mt19937 random(7);
  auto pick = [&](int most) { return static_cast<int64_t>(random() % (most + 1)); };
  int fitting = 0, equal_devices = 0, fewer = 0;
  for (int round = 0; round < 6000; ++round) {
    const int items = 1 + static_cast<int>(pick(7)), count = 1 + static_cast<int>(pick(3));
    std::vector<int64_t> bytes, block_bytes;
    for (int i = 0; i < items; ++i) {
      bytes.push_back(round % 3 == 0 ? 10 : pick(50));
      block_bytes.push_back(pick(2) == 0 ? 0 : round % 2 == 0 ? 3 : pick(5));
    }
    const int idle = items > 2 && pick(3) == 0 ? 1 + static_cast<int>(pick(items - 2)) : -1;
    if (idle >= 0) block_bytes[idle] = 0;
    StageCosts costs = CostsOf(bytes, block_bytes, idle);
    // Hidden states in flight: the more stages, the more of them on each.
    const int64_t handoff = pick(1) * pick(12);
    for (int stages = 0; stages <= count; ++stages) costs.handoff_bytes.push_back(stages < 2 ? 0 : stages * handoff);
    std::vector<StageDevice> devices;
    const bool same = pick(1) == 0;
    for (int d = 0; d < count; ++d)
      devices.push_back(same && d > 0 ? devices[0] : StageDevice{pick(4) == 0 && !same ? 0 : 20 + pick(150), pick(3)});
    equal_devices += same;
    const int64_t blocks = pick(8), wanted = pick(20);

    Measured best;
    best.fullest = best.spread = 1e300;
    int64_t most = -1;
    std::vector<int> chosen;
    AllPartitions(items, count, chosen, [&](const std::vector<int>& partition) {
      const Measured measured = Measure(costs, devices, partition, blocks, wanted);
      most = std::max(most, measured.blocks);
      if (measured.fullest < best.fullest) best = measured;
      if (measured.fullest == best.fullest) best.spread = std::min(best.spread, measured.spread);
    });
    const Partition partition = BestPartition(costs, devices, blocks);
    ASSERT_EQ(MostBlocks(costs, devices, wanted), most) << "round " << round;
    if (best.fullest == 1e300) {
      EXPECT_TRUE(partition.device_of_item.empty()) << "round " << round;
      continue;
    }
    ASSERT_EQ(partition.fullest, best.fullest) << "round " << round;
    const Measured itself = Measure(costs, devices, partition.device_of_item, blocks, wanted);
    ASSERT_EQ(itself.fullest, partition.fullest) << "round " << round;
    fitting += best.fullest <= 1;
    if (handoff > 0) {
      fewer += std::set<int>(partition.device_of_item.begin(), partition.device_of_item.end()).size() <
               std::min<size_t>(items, count);
      continue;
    }
    ASSERT_NEAR(partition.spread, best.spread, 1e-9 * best.spread) << "round " << round;
    ASSERT_NEAR(itself.spread, partition.spread, 1e-9 * best.spread) << "round " << round;
  }
  EXPECT_GT(fitting, 500);
  EXPECT_GT(equal_devices, 500);
  EXPECT_GT(fewer, 500) << "where handing over costs more than another device brings";
}

TEST(AutoPolicyTest, DeviceWithoutBudgetStaysEmpty) {
  const StageCosts costs = CostsOf({10, 10, 10});
  const Partition cut = BestPartition(costs, {{0, 0}, {100, 0}, {0, 0}, {100, 0}}, 0);
  EXPECT_THAT(cut.device_of_item, testing::Each(testing::AnyOf(1, 3)));
  EXPECT_TRUE(BestPartition(costs, {{0, 0}}, 0).device_of_item.empty());
  EXPECT_EQ(MostBlocks(costs, {{0, 0}}, 5), -1);
}

TEST(AutoPolicyTest, HundredLayersOn64DevicesInMilliseconds) {
  std::vector<int64_t> bytes(103, 1'000'000), block_bytes(103, 4096);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] += static_cast<int64_t>(i * 7919 % 1000);
  const StageCosts costs = CostsOf(bytes, block_bytes);
  std::vector<StageDevice> devices;
  for (int d = 0; d < 64; ++d) devices.push_back({int64_t{4'000'000} + d * 10'000, 0});
  double least = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const int64_t blocks = MostBlocks(costs, devices, 1 << 20);
    const Partition cut = BestPartition(costs, devices, blocks);
    least =
        std::min(least, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    EXPECT_LE(cut.fullest, 1);
  }
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(least, 50) << "milliseconds";  // about 3 on a quiet machine
#endif
}

}  // namespace
}  // namespace causeway
