// Workers, the hand-over between devices and weights that are prefetched, on devices that do their work late and fail.
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/execution/testing.h"
#include "tests/support/fake_async_runtime.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using testing::DriveOptions;
using testing::Driver;
using testing::FakeMachine;
using ::testing::HasSubstr;
using testing::LateOptions;
using testing::PlanFor;

const std::vector<std::vector<int32_t>> kPrompts = {
    {5}, {80, 3, 3, 3, 17, 60, 2, 9, 44, 31, 8, 77, 5, 6, 1, 0, 19, 23, 42, 11, 7, 7, 70}, {9, 8, 7}};
constexpr int64_t kTokens = 8;

PlanOptions AllIn(const std::string& tier) {
  PlanOptions options;
  options.device_map = "custom";
  options.custom_map = {{"", tier}};
  options.offload_to_disk = true;
  if (tier == "cpu") options.max_memory = {{"0", int64_t{64} << 20}, {"cpu", int64_t{64} << 20}};
  return options;
}

class AsyncDeviceTest : public ::testing::TestWithParam<Json> {
 protected:
  AsyncDeviceTest()
      : tiny_(GetParam()),
        folder_((fs::path(::testing::TempDir()) / absl::StrCat("async-device-", getpid())).string()) {
    fs::create_directories(folder_);
    auto cpu = Start(nullptr, PlanFor(tiny_.spec(), "simulated:1x64MiB"));
    expected_ = Driver(*cpu, kPrompts, {.tokens = kTokens}).Run();
  }
  ~AsyncDeviceTest() override { fs::remove_all(folder_); }

  // On the machine's devices; null: on the CPU.
  std::unique_ptr<Executor> Start(FakeMachine* machine, const Plan& plan,
                                  std::optional<int64_t> cpu_rows = std::nullopt) {
    ExecutorOptions options;
    options.cpu_threads = 1;  // as in engine_threads_test
    options.offload_folder = folder_;
    options.offload_cpu_rows = cpu_rows;
    if (machine != nullptr) {
      options.make_runtime = [machine](const DevicePlan& device, bool reference) {
        return machine->MakeRuntime(device, reference);
      };
    }
    auto executor = MakeExecutor(tiny_.spec(), tiny_.checkpoint(), plan, options, nullptr);
    if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
    return *std::move(executor);
  }

  void ExpectSame(Executor& executor) {
    for (const DriveOptions& drive :
         {DriveOptions{.tokens = kTokens}, DriveOptions{.tokens = kTokens, .chunk = 5, .ahead = true}}) {
      EXPECT_EQ(Driver(executor, kPrompts, drive).Run(), expected_);
    }
  }

  // The first prompt's first token.
  StepPlan OneStep(uint64_t number) const {
    StepPlan step;
    step.step = number;
    auto start = std::make_shared<SequenceStart>();
    start->sampling.temperature = 0;
    start->tokens = kPrompts[0];
    start->prompt_tokens = 1;
    step.sequences.push_back({.sequence = number,
                              .slot = 0,
                              .tokens = kPrompts[0],
                              .block_table = {0},
                              .sample = true,
                              .start = std::move(start)});
    step.tokens = step.prefill_tokens = 1;
    return step;
  }
  StepResult RunOne(Executor& executor, uint64_t number) {
    executor.Run(OneStep(number));
    return executor.Wait();
  }

  // Weights in each place that they can be offloaded to.
  struct Offload {
    std::string tier;
    std::optional<int64_t> cpu_rows;
  };
  const std::vector<Offload> offloads_ = {
      {"cpu", 0}, {"cpu", 2}, {"cpu", std::numeric_limits<int64_t>::max()}, {"cpu", std::nullopt}, {"disk", 0}};

  const TinyCheckpoint tiny_;
  const std::string folder_;
  std::vector<std::vector<int32_t>> expected_;
};

TEST_P(AsyncDeviceTest, OneDeviceAndSeveralGiveTheTokensOfTheCpu) {
  for (const char* devices : {"simulated:1x64MiB", "simulated:2x64MiB", "simulated:4x64MiB"}) {
    FakeMachine machine({});
    const Plan plan = PlanFor(tiny_.spec(), devices);
    ExpectSame(*Start(&machine, plan));
    EXPECT_EQ(machine.queues().size(), plan.devices.size());
  }
}

TEST_P(AsyncDeviceTest, SampledTokensAreThoseOfTheCpu) {
  std::vector<SamplingParams> all = {
      {.temperature = 1.2, .top_k = 20, .top_p = 0.9, .seed = 3},
      {.temperature = 0.8, .frequency_penalty = 1, .seed = 4},
      {.temperature = 0, .repetition_penalty = 1.3, .logprobs = true, .top_logprobs = 3}};
  for (const SamplingParams& sampling : all) {
    const DriveOptions drive{.tokens = kTokens, .chunk = 5, .ahead = true, .sampling = sampling};
    auto cpu = Start(nullptr, PlanFor(tiny_.spec(), "simulated:1x64MiB"));
    FakeMachine machine({});
    auto late = Start(&machine, PlanFor(tiny_.spec(), "simulated:1x64MiB"));
    EXPECT_EQ(late->steps_in_flight(), 3);
    EXPECT_EQ(Driver(*late, kPrompts, drive).Run(), Driver(*cpu, kPrompts, drive).Run());
  }
}

// The host starts a step while the device computes the one before, whose token it reads.
TEST_P(AsyncDeviceTest, TokensDoNotGoThroughTheHost) {
  if (tiny_.spec().layers.back().moe.has_value()) return;  // the host reads which experts are chosen
  FakeMachine machine({});
  auto executor = Start(&machine, PlanFor(tiny_.spec(), "simulated:1x64MiB"));
  testing::LateQueue& queue = machine.queue("simulated:0");
  RunOne(*executor, 1);
  const uint64_t before = queue.pushed();
  RunOne(*executor, 2);
  const uint64_t of_step = queue.pushed() - before;
  const auto until_pushed = [&](uint64_t count) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (queue.pushed() < count && absl::Now() < deadline) std::this_thread::yield();
    EXPECT_GE(queue.pushed(), count);
  };
  // The worker is kept waiting for a first step until two more are there.
  absl::Notification first, others;
  queue.Push([&] { first.WaitForNotification(); });
  uint64_t pushed = queue.pushed();
  executor->Run(OneStep(3));
  until_pushed(pushed + of_step);
  queue.Push([&] { others.WaitForNotification(); });
  pushed = queue.pushed();
  executor->Run(OneStep(4));
  StepPlan next = OneStep(5);
  next.prefill_tokens = 0;
  next.sequences[0].sequence = 4;
  next.sequences[0].tokens = {kPlaceholderToken};
  next.sequences[0].context = next.sequences[0].generated = 1;
  next.sequences[0].start = nullptr;
  executor->Run(std::move(next));
  first.Notify();
  until_pushed(pushed + 2 * of_step);
  others.Notify();
  for (const int32_t token : {expected_[0][0], expected_[0][0], expected_[0][1]}) {
    const StepResult result = executor->Wait();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens.at(0).token, token);
  }
}

TEST_P(AsyncDeviceTest, LayerOutputsAreThoseOfTheCpu) {
  const int64_t rows = kPrompts[1].size(), units = tiny_.spec().layers.size() + 3;
  const auto outputs = [&](Executor& executor) {
    std::vector<int> wanted;
    for (int unit = 0; unit + 1 < units; ++unit) wanted.push_back(unit);  // of all but the head
    StepPlan step = OneStep(1);
    StepSequence& sequence = step.sequences[0];
    auto start = std::make_shared<SequenceStart>(*sequence.start);
    start->tokens = sequence.tokens = kPrompts[1];
    start->prompt_tokens = step.tokens = step.prefill_tokens = rows;
    sequence.start = start;
    sequence.block_table = {0, 1};
    const auto taken = std::make_shared<LayerOutputs>();
    *taken = {.units = wanted, .rows = rows, .width = tiny_.spec().hidden_size};
    taken->values = std::make_unique<float[]>(LayerOutputs::Bytes(wanted.size(), rows, taken->width) / sizeof(float));
    sequence.local.layer_outputs = taken;
    executor.Run(std::move(step));
    const StepResult result = executor.Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
    return taken;
  };
  auto cpu = Start(nullptr, PlanFor(tiny_.spec(), "simulated:1x64MiB"));
  const auto expected = outputs(*cpu);
  for (const char* devices : {"simulated:1x64MiB", "simulated:4x64MiB"}) {
    FakeMachine machine({});
    auto late = Start(&machine, PlanFor(tiny_.spec(), devices));
    const auto got = outputs(*late);
    for (int unit = 0; unit + 1 < units; ++unit) {
      for (int64_t i = 0; i < rows * tiny_.spec().hidden_size; ++i)
        ASSERT_NEAR(got->of_unit(unit)[i], expected->of_unit(unit)[i], 1e-4)
            << devices << ", unit " << unit << ", value " << i;
    }
  }
}

TEST_P(AsyncDeviceTest, OffloadedWeightsGiveTheTokensOfTheCpu) {
  for (const Offload& offload : offloads_) {
    FakeMachine machine({});
    const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn(offload.tier));
    ASSERT_GT(plan.offloaded_to_cpu + plan.offloaded_to_disk, 0);
    ExpectSame(*Start(&machine, plan, offload.cpu_rows));
  }
}

// No memory is left for some operation of a step: that step fails, and no other, wherever it happens.
TEST_P(AsyncDeviceTest, AnOperationThatIsRefusedEndsItsStepAlone) {
  for (const Offload& offload : {Offload{"", 0}, Offload{"cpu", 0}, Offload{"disk", 0}}) {
    FakeMachine machine({});
    auto executor =
        Start(&machine,
              PlanFor(tiny_.spec(), "simulated:1x64MiB", offload.tier.empty() ? PlanOptions() : AllIn(offload.tier)),
              offload.cpu_rows);
    uint64_t number = 0;
    for (uint64_t after = 0;; after += 7) {
      machine.queue("simulated:0").RefuseAt(after);
      const StepResult refused = RunOne(*executor, ++number);
      if (refused.status.ok()) break;  // the step has less operations than that
      EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted) << refused.status;
      EXPECT_TRUE(refused.device_failure.ok()) << refused.device_failure;
      const StepResult next = RunOne(*executor, ++number);
      ASSERT_TRUE(next.status.ok()) << next.status;
      EXPECT_EQ(next.tokens.at(0).token, expected_[0][0]) << "after " << after << " operations";
    }
    EXPECT_GT(number, 10u);
    machine.queue("simulated:0").RefuseAt(uint64_t{1} << 60);
    ExpectSame(*executor);
  }
}

// A device that has failed fails every step from then on, on whichever device the steps' other segments are, and the
// executor ends.
TEST_P(AsyncDeviceTest, AFailedDeviceFailsStepsAndNothingHangs) {
  for (const Offload& offload : {Offload{"", 0}, Offload{"cpu", 0}, Offload{"disk", 0}}) {
    for (const uint64_t after : {0, 3, 20, 45}) {
      FakeMachine machine({});
      auto executor = Start(&machine,
                            offload.tier.empty() ? PlanFor(tiny_.spec(), "simulated:2x64MiB")
                                                 : PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn(offload.tier)),
                            offload.cpu_rows);
      const StepResult good = RunOne(*executor, 1);
      ASSERT_TRUE(good.status.ok()) << good.status;
      machine.queues().rbegin()->second->FailAt(after);
      for (int i = 0; i < executor->steps_in_flight(); ++i) executor->Run(OneStep(i + 2));
      for (int i = 0; i < executor->steps_in_flight(); ++i) {
        const StepResult result = executor->Wait();
        EXPECT_EQ(result.step, i + 2u);
        if (result.status.ok()) continue;  // done before the failure
        EXPECT_THAT(result.status.message(), HasSubstr("illegal memory access"));
      }
      const StepResult last = RunOne(*executor, 9);
      EXPECT_EQ(last.status.code(), absl::StatusCode::kInternal) << last.status;
      EXPECT_THAT(last.status.message(), HasSubstr(machine.queues().rbegin()->first));
      EXPECT_THAT(last.device_failure.message(), HasSubstr("illegal memory access"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, AsyncDeviceTest, ::testing::Values(TinyLlama(), TinyGpt2(), TinyQwen3Moe()));

}  // namespace
}  // namespace causeway
