// Who computes from weights in CPU memory, the device or the CPU (offload_compute), on devices where one thing or
// another takes long, or fails.
#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/execution/testing.h"
#include "tests/support/fake_async_runtime.h"

namespace causeway {
namespace {

using std::chrono::microseconds;
using testing::DriveOptions;
using testing::Driver;
using testing::FakeMachine;
using ::testing::HasSubstr;
using testing::LateOptions;
using testing::LatePlace;

const std::vector<std::vector<int32_t>> kPrompts = {{5}, {80, 3, 3, 3, 17, 60, 2, 9, 44, 31, 8}, {9, 8, 7}};
constexpr int64_t kTokens = 4;

struct Mode {
  std::string name;
  std::optional<int64_t> cpu_rows;
};
const std::vector<Mode> kModes = {
    {"cpu", std::numeric_limits<int64_t>::max()}, {"stream", 0}, {"auto", std::nullopt}, {"up to 2 rows", 2}};
const std::vector<LatePlace> kPlaces = {LatePlace::kNowhere,    LatePlace::kWork,    LatePlace::kUpload,
                                        LatePlace::kDownload,   LatePlace::kReceive, LatePlace::kCopyFromHost,
                                        LatePlace::kCopyToHost, LatePlace::kOnHost};

class AsyncOffloadTest : public ::testing::TestWithParam<Json> {
 protected:
  AsyncOffloadTest() : tiny_(GetParam()) {
    auto cpu = testing::Start(tiny_, testing::PlanFor(tiny_.spec(), "simulated:1x64MiB"));
    expected_ = Driver(*cpu, kPrompts, {.tokens = kTokens}).Run();
  }

  // All in CPU memory. With two devices the embeddings are on the first and a layer is on the second, which compute
  // what is offloaded behind them.
  Plan AllInCpuMemory(int devices) const {
    PlanOptions options;
    options.device_map = "custom";
    options.custom_map = {{"", "cpu"}};
    options.max_memory = {{"0", int64_t{64} << 20}, {"cpu", int64_t{64} << 20}};
    if (devices == 2) {
      options.max_memory["1"] = int64_t{64} << 20;
      options.custom_map[tiny_.spec().embedding_path] = "0";
      options.custom_map[tiny_.spec().layers[1].path] = "1";
    }
    return testing::PlanFor(tiny_.spec(), absl::StrCat("simulated:", devices, "x64MiB"), options);
  }

  absl::StatusOr<std::unique_ptr<Executor>> Start(FakeMachine& machine, const Plan& plan, const Mode& mode,
                                                  std::optional<uint64_t> fail_at = std::nullopt) {
    ExecutorOptions options;
    options.cpu_threads = 1;
    options.offload_cpu_rows = mode.cpu_rows;
    options.make_runtime = [&machine, fail_at](const DevicePlan& device, bool reference) {
      auto runtime = machine.MakeRuntime(device, reference);
      if (fail_at.has_value()) machine.queue(device.device.name).FailAt(*fail_at);
      return runtime;
    };
    return MakeExecutor(tiny_.spec(), tiny_.checkpoint(), plan, options, nullptr);
  }

  const TinyCheckpoint tiny_;
  std::vector<std::vector<int32_t>> expected_;
};

TEST_P(AsyncOffloadTest, TokensAreTheSameWhereverTheDelaysAre) {
  for (const int devices : {1, 2}) {
    const Plan plan = AllInCpuMemory(devices);
    ASSERT_GT(plan.offloaded_to_cpu, 0);
    ASSERT_EQ(plan.segments.size() > 1, devices > 1);
    for (const Mode& mode : kModes) {
      for (const LatePlace place : kPlaces) {
        SCOPED_TRACE(absl::StrCat(mode.name, " on ", devices, ", late at ", static_cast<int>(place)));
        FakeMachine machine({.delay_max = microseconds(5), .late_at = place, .late_by = microseconds(100)});
        auto executor = Start(machine, plan, mode);
        ASSERT_TRUE(executor.ok()) << executor.status();
        EXPECT_EQ(Driver(**executor, kPrompts, {.tokens = kTokens, .chunk = 5, .ahead = true}).Run(), expected_);
      }
    }
  }
}

// The measurement sees the work itself, and not only that it was queued.
TEST_P(AsyncOffloadTest, AutoHasTheCpuComputeWhereCopiesAreSlowAndTheDeviceWhereTheCpuIs) {
  const Plan plan = AllInCpuMemory(1);
  const bool experts = tiny_.spec().layers[1].moe.has_value();
  const auto rows = [&](LatePlace place) {
    FakeMachine machine({.delay_max = microseconds(0), .late_at = place, .late_by = microseconds(20'000)});
    auto executor = Start(machine, plan, {"auto", std::nullopt});
    EXPECT_TRUE(executor.ok()) << executor.status();
    const DeviceStats stats = (*executor)->Stats().devices[0];
    return std::pair(stats.cpu_rows, stats.expert_cpu_rows);
  };
  const auto slow_copies = rows(LatePlace::kCopyFromHost), slow_cpu = rows(LatePlace::kOnHost);
  EXPECT_GE(slow_copies.first, 8);
  EXPECT_EQ(slow_copies.second >= 8, experts);
  EXPECT_EQ(slow_cpu, std::pair(int64_t{0}, int64_t{0}));
}

// Wherever a device fails while weights are loaded, tried and warmed up with, the start ends and says so.
TEST_P(AsyncOffloadTest, ADeviceThatFailsInAStartEndsIt) {
  const Plan plan = AllInCpuMemory(1);
  for (const Mode& mode : kModes) {
    SCOPED_TRACE(mode.name);
    int failed = 0;
    for (uint64_t at = 0;; at += 5) {
      FakeMachine machine({.delay_max = microseconds(0)});
      const auto executor = Start(machine, plan, mode, at);
      if (executor.ok()) break;  // the start has less work than that
      ++failed;
      EXPECT_EQ(executor.status().code(), absl::StatusCode::kInternal) << executor.status();
      EXPECT_THAT(executor.status().message(), HasSubstr("illegal memory access"));
    }
    EXPECT_GT(failed, 3);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, AsyncOffloadTest, ::testing::Values(TinyLlama(), TinyGpt2(), TinyQwen3Moe()));

}  // namespace
}  // namespace causeway
