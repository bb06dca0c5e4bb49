// Compares with transformers where devices share layers: every golden model and quantized one, every size of groups,
// one group and two, with each feature that cuts or moves weights, rows or sequences. The tokens are the golden ones.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/architecture/shard.h"
#include "tests/golden/golden_test.h"

namespace causeway {
namespace {

constexpr int kDevicesMax = 4;

class ParallelParity : public GoldenTest {
 protected:
  // Runs `test` with the options of every shape, whose engines have so many devices.
  void ForEachShape(const std::function<void(EngineOptions options, int devices)>& test) {
    const absl::StatusOr<PlacedModel> placed = PlaceModel(options_);
    ASSERT_TRUE(placed.ok()) << placed.status();
    for (const int tp : GroupSizes(placed->spec, kDevicesMax)) {
      for (const int pp : {1, 2, 4}) {
        for (const int dp : {1, 2, 4}) {
          if (dp * pp * tp > kDevicesMax || dp * tp == 1) continue;  // pipelines alone are parity_test's
          SCOPED_TRACE(absl::StrCat("dp=", dp, ",pp=", pp, ",tp=", tp));
          EngineOptions options = options_;
          options.devices = absl::StrCat("simulated:", dp * pp * tp, "x64MiB");
          options.plan.parallel = {.dp = dp, .pp = pp, .tp = tp};
          test(options, dp * pp * tp);
          ++shapes_;
        }
      }
    }
  }

  void RunAll(const std::string& what) {
    ForEachShape([this](EngineOptions options, int devices) {
      ExpectTokens(options, 1);
      if (options.plan.parallel.dp == 1) {
        options.executor.reference_ops = true;
        ExpectTokens(options, 1);
        options.executor.reference_ops = false;
      }
      options.plan.max_num_batched_tokens = 11;  // chunks, and the prompts once more from the prefix cache
      ExpectTokens(options, 2);
      options.plan.kv_cache_tokens = 208;  // room for one and a half of four sequences
      const EngineStats tight = ExpectTokens(options, 1);
      if (options.plan.parallel.dp == 1) EXPECT_GT(tight.scheduler.preemptions, 0);
      options.plan.kv_cache_tokens = 2048;
      const bool replicas = options.plan.parallel.dp > 1;  // which are as one is: they need not see it all
      for (const auto& [on_disk, cpu_rows] : {std::pair(true, 0), {false, 0}, {false, 5}}) {
        if (replicas && cpu_rows == 0) continue;
        EngineOptions offloaded = options;
        OffloadMost(offloaded, on_disk, cpu_rows, devices);
        const absl::StatusOr<PlacedModel> placed = PlaceModel(offloaded);
        ASSERT_TRUE(placed.ok()) << placed.status();
        // A small stage may have nothing to give away that is larger than the buffer it would come back through.
        offloaded_ += placed->plan.offloaded_to_disk + placed->plan.offloaded_to_cpu > 0;
        ExpectTokens(offloaded, 1);
      }
    });
    std::printf("%s: %d shapes, %d runs equal to transformers, %d with weights off the devices\n", what.c_str(),
                shapes_, runs_, offloaded_);
    EXPECT_GT(offloaded_, shapes_ / 2);
  }

  EngineStats ExpectTokens(const EngineOptions& options, int rounds) {
    auto engine = MakeTestEngine(options);
    for (int round = 0; round < rounds; ++round) {
      ExpectGolden(GenerateAll(*engine, Requests(absl::StrCat("round", round, "-"))));
      ++runs_;
    }
    if (rounds > 1) EXPECT_GT(engine->Stats().scheduler.prefix_hit_tokens, 0);
    const Plan& plan = engine->model().plan;
    EXPECT_EQ(plan.segments.front().devices.size(), static_cast<size_t>(options.plan.parallel.tp));
    EXPECT_EQ(plan.segments.back().replica, options.plan.parallel.dp - 1);
    const EngineStats stats = engine->Stats();
    // Four requests at once go to several replicas, all of whose devices compute.
    const int dp = options.plan.parallel.dp;
    const auto computed = std::count_if(stats.executor.devices.begin(), stats.executor.devices.end(),
                                        [](const DeviceStats& device) { return device.decode_tokens > 0; });
    EXPECT_GE(computed, static_cast<int64_t>(plan.devices.size()) / dp * std::min(dp, 2));
    return stats;
  }

  int shapes_ = 0, runs_ = 0, offloaded_ = 0;
};

class PlainParallelTest : public ParallelParity {
 protected:
  void SetUp() override { Load("models"); }
};
TEST_P(PlainParallelTest, EveryShapeAndFeature) { RunAll(GetParam()); }

class QuantizedParallelTest : public ParallelParity {
 protected:
  void SetUp() override { Load("quantized"); }
};
TEST_P(QuantizedParallelTest, EveryShapeAndFeature) { RunAll(GetParam()); }

std::string TestName(const testing::TestParamInfo<std::string>& info) {
  return absl::StrReplaceAll(info.param, {{"-", "_"}});
}
INSTANTIATE_TEST_SUITE_P(Models, PlainParallelTest, testing::ValuesIn(GoldenNames()), TestName);
INSTANTIATE_TEST_SUITE_P(Formats, QuantizedParallelTest, testing::ValuesIn(GoldenNames("quantized")), TestName);

}  // namespace
}  // namespace causeway
