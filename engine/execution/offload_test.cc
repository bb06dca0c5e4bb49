// Steps of a model whose weights are not all on its devices.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/architecture/held_bytes.h"
#include "engine/execution/testing.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "tests/support/temporary_folder.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::AnyOf;
using testing::DriveOptions;
using testing::Driver;
using ::testing::HasSubstr;
using testing::kPrompts;
using testing::TemporaryFolder;

constexpr int64_t kAlways = std::numeric_limits<int64_t>::max();

// With the bytes that fused kernels hold, packed and padded.
Plan PlanFor(const ModelSpec& spec, const std::string& devices, const PlanOptions& options = {}) {
  ModelSpec held = spec;
  CountHeldBytes(
      [](const LinearSpec& linear) {
        const bool bias = !linear.parts.front().bias.empty();
        return CpuWeightBytes(linear.out_features(), linear.in_features, bias, DTypeBytes(DType::kF32), linear.format);
      },
      held);
  return testing::PlanFor(held, devices, options);
}

// Everything that can be is in `tier`.
PlanOptions AllIn(const std::string& tier) {
  PlanOptions options;
  options.device_map = "custom";
  options.custom_map = {{"", tier}};
  options.offload_to_disk = true;
  if (tier == "cpu") options.max_memory = {{"0", int64_t{64} << 20}, {"cpu", int64_t{64} << 20}};
  return options;
}

absl::StatusOr<std::unique_ptr<Executor>> TryStart(const TinyCheckpoint& tiny, const Plan& plan,
                                                   const std::string& folder,
                                                   std::optional<int64_t> cpu_rows = std::nullopt,
                                                   bool reference = false) {
  return MakeExecutor(
      tiny.spec(), tiny.checkpoint(), plan,
      {.cpu_threads = 2, .reference_ops = reference, .offload_folder = folder, .offload_cpu_rows = cpu_rows}, nullptr);
}

int64_t Streamed(const Executor& executor) {
  int64_t bytes = 0;
  for (const DeviceStats& device : executor.Stats().devices) bytes += device.streamed_bytes;
  return bytes;
}

class OffloadTest : public ::testing::TestWithParam<Json> {
 protected:
  OffloadTest() : tiny_(GetParam()), folder_("offload") {
    auto whole = testing::Start(tiny_, PlanFor(tiny_.spec(), "simulated:1x64MiB"));
    expected_ = Driver(*whole, kPrompts, {}).Run();
  }

  void ExpectSame(const Plan& plan, std::optional<int64_t> cpu_rows = std::nullopt, bool reference = false) {
    auto executor = TryStart(tiny_, plan, folder_.path(), cpu_rows, reference);
    ASSERT_TRUE(executor.ok()) << executor.status();
    for (const DriveOptions& drive : {DriveOptions{}, DriveOptions{.chunk = 5, .ahead = true}}) {
      EXPECT_EQ(Driver(**executor, kPrompts, drive).Run(), expected_);
    }
    const ExecutorStats stats = (*executor)->Stats();
    for (size_t d = 0; d < plan.devices.size(); ++d) {
      EXPECT_LE(stats.devices[d].memory.weights, plan.devices[d].weights) << plan.devices[d].device.name;
    }
    if (plan.offloaded_to_disk > 0 || cpu_rows == 0) {
      EXPECT_GT(Streamed(**executor), 0);
    } else if (cpu_rows == kAlways) {
      EXPECT_EQ(Streamed(**executor), 0);
    }
  }

  // Most of the file is gone for a while; `afterwards` is what steps say then.
  void ExpectFailsWithout(const std::unique_ptr<Executor>& executor, const fs::path& file,
                          const std::string& afterwards) {
    const uintmax_t size = fs::file_size(file);
    fs::copy_file(file, file.string() + ".copy");
    fs::resize_file(file, 8192);
    StepPlan step;
    step.step = 1;
    StepSequence& sequence = step.sequences.emplace_back();
    sequence.sequence = 1;
    sequence.tokens = {1, 2, 3};
    sequence.block_table = {0};
    sequence.sample = true;
    auto start = std::make_shared<SequenceStart>();
    start->sampling.temperature = 0;
    start->tokens = sequence.tokens;
    start->prompt_tokens = 3;
    sequence.start = start;
    step.tokens = step.prefill_tokens = 3;
    absl::Status failed;
    for (int tries = 0; tries < 4 && failed.ok(); ++tries) {  // what was read ahead is still good
      StepPlan again = step;
      again.step = tries + 1;
      executor->Run(std::move(again));
      failed = executor->Wait().status;
    }
    EXPECT_THAT(failed.message(),
                AllOf(HasSubstr(file.string()), AnyOf(HasSubstr("shorter"), HasSubstr("written to"))));

    std::ofstream(file, std::ios::binary | std::ios::in)
        << std::ifstream(file.string() + ".copy", std::ios::binary).rdbuf();
    ASSERT_EQ(fs::file_size(file), size);
    step.step = 9;
    executor->Run(std::move(step));
    EXPECT_THAT(executor->Wait().status.message(), HasSubstr(afterwards));
  }

  const TinyCheckpoint tiny_;
  const TemporaryFolder folder_;
  std::vector<std::vector<int32_t>> expected_;
};

TEST_P(OffloadTest, AllOnDiskGivesTheSameTokens) {
  const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn("disk"));
  EXPECT_GT(plan.offloaded_to_disk, 0);
  EXPECT_LT(plan.devices[0].weights, plan.offloaded_to_disk);
  ExpectSame(plan);
}

// The reference computes from rows as checkpoints have them: nothing is packed but what is stored the other way round.
TEST_P(OffloadTest, WhatIsStoredAsHeldComesFromTheCheckpoint) {
  const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn("disk"));
  ExpectSame(plan, /*cpu_rows=*/{}, /*reference=*/true);
  const bool transposed = tiny_.spec().layers[0].mlp.up.transposed;
  EXPECT_EQ(folder_.files().size(), transposed ? 1u : 0u);
}

TEST_P(OffloadTest, AllInCpuMemoryGivesTheSameTokens) {
  const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn("cpu"));
  EXPECT_GT(plan.offloaded_to_cpu, 0);
  EXPECT_EQ(plan.offloaded_to_disk, 0);
  for (const std::optional<int64_t> cpu_rows :
       {std::optional<int64_t>(), std::optional<int64_t>(0), std::optional<int64_t>(kAlways)})
    ExpectSame(plan, cpu_rows);
  ExpectSame(plan, kAlways, /*reference=*/true);
}

// Small steps are computed from CPU memory, large ones from the staging buffer, in turn; some weights are on disk
// always.
TEST_P(OffloadTest, WhereItIsComputedChangesFromStepToStep) {
  PlanOptions options = AllIn("cpu");
  const Plan in_memory = PlanFor(tiny_.spec(), "simulated:1x64MiB", options);
  options.custom_map = {{"", "cpu"}, {tiny_.spec().layers[0].path, "disk"}};
  const Plan both = PlanFor(tiny_.spec(), "simulated:1x64MiB", options);
  EXPECT_GT(both.offloaded_to_cpu, 0);
  EXPECT_GT(both.offloaded_to_disk, 0);
  for (const int64_t cpu_rows : {1, 2, 3, 4, 6}) {
    SCOPED_TRACE(cpu_rows);
    ExpectSame(both, cpu_rows);
    ExpectSame(in_memory, cpu_rows);
    auto executor = TryStart(tiny_, in_memory, folder_.path(), cpu_rows);
    ASSERT_TRUE(executor.ok()) << executor.status();
    EXPECT_EQ((*executor)->Stats().devices[0].cpu_rows, cpu_rows);
    EXPECT_EQ((*executor)->Stats().devices[0].expert_cpu_rows,
              tiny_.spec().layers.back().moe.has_value() ? cpu_rows : 0);
    Driver(**executor, {{5}}, {}).Run();  // a row at a time; also over what was read ahead
    const int64_t before = Streamed(**executor);
    Driver(**executor, {std::vector<int32_t>(cpu_rows, 7)}, {}).Run();
    EXPECT_EQ(Streamed(**executor), before);
    Driver(**executor, {std::vector<int32_t>(cpu_rows + 1, 7)}, {}).Run();
    EXPECT_GT(Streamed(**executor), before);
  }
}

TEST(OffloadExpertsTest, ExpertsGoByTheRowsThatComeToThem) {
  const TinyCheckpoint tiny(TinyQwen3Moe());
  const std::vector<std::vector<int32_t>> four_alike(4, {7}), long_one = {kPrompts[2]};
  int spread = 0;
  for (const LayerSpec& layer : tiny.spec().layers) {
    if (!layer.moe.has_value()) continue;
    SCOPED_TRACE(layer.path);
    PlanOptions options = AllIn("cpu");
    options.custom_map = {{"", "0"}, {layer.path + ".mlp.experts", "cpu"}};
    const Plan plan = PlanFor(tiny.spec(), "simulated:1x64MiB", options);
    const auto streams = [&](int64_t cpu_rows, const std::vector<std::vector<int32_t>>& prompts) {
      auto executor = TryStart(tiny, plan, "", cpu_rows);
      EXPECT_TRUE(executor.ok()) << executor.status();
      const int64_t before = Streamed(**executor);
      Driver(**executor, prompts, {}).Run();
      return Streamed(**executor) > before;
    };
    EXPECT_TRUE(streams(3, four_alike));
    EXPECT_FALSE(streams(4, four_alike));
    EXPECT_TRUE(streams(4, long_one));
    EXPECT_FALSE(streams(23, long_one));
    spread += !streams(22, long_one);
  }
  EXPECT_GT(spread, 0) << "everywhere all rows of the step went to one expert";
}

// Budgets from what just holds the whole model down to what nothing fits in any more.
TEST_P(OffloadTest, AutoKeepsEveryBudget) {
  PlanOptions options;
  options.offload_to_disk = true;
  for (const int devices : {1, 2}) {
    int64_t last = -1;
    int served = 0;
    for (int64_t kib = 4096; kib > 256; kib -= 96) {
      Plan plan;
      try {
        plan = PlanFor(tiny_.spec(), absl::StrCat("simulated:", devices, "x", kib, "KiB"), options);
      } catch (const std::runtime_error& error) {
        EXPECT_THAT(error.what(), HasSubstr("does not fit"));
        break;
      }
      for (const DevicePlan& device : plan.devices) EXPECT_GE(device.free, 0) << kib;
      if (plan.offloaded_to_disk == std::exchange(last, plan.offloaded_to_disk)) continue;
      SCOPED_TRACE(absl::StrCat(devices, " x ", kib, " KiB, ", plan.offloaded_to_disk, " bytes on disk"));
      served += plan.offloaded_to_disk > 0;
      ExpectSame(plan);
    }
    EXPECT_GE(served, 2) << devices;
  }
}

TEST_P(OffloadTest, AFileIsPackedOnce) {
  const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn("disk"));
  ExpectSame(plan);
  ASSERT_EQ(folder_.files().size(), 1u);
  const fs::file_time_type written = fs::last_write_time(folder_.files()[0]);
  ExpectSame(plan);
  ASSERT_EQ(folder_.files().size(), 1u);
  EXPECT_EQ(fs::last_write_time(folder_.files()[0]), written);

  // Of another size, it is another's, or broken: written anew.
  fs::resize_file(folder_.files()[0], fs::file_size(folder_.files()[0]) - 4096);
  ExpectSame(plan);
  EXPECT_NE(fs::last_write_time(folder_.files()[0]), written);

  // Other weights at the same place: the file is not theirs.
  const std::string model = (fs::path(tiny_.folder()) / "model.safetensors").string();
  fs::last_write_time(model, fs::last_write_time(model) + std::chrono::seconds(1));
  ExpectSame(plan);
  EXPECT_EQ(folder_.files().size(), 2u);
  // Also where they have the time of the old ones.
  const fs::file_time_type time = fs::last_write_time(model);
  fs::copy_file(model, model + ".other");
  fs::rename(model + ".other", model);
  fs::last_write_time(model, time);
  ExpectSame(plan);
  EXPECT_EQ(folder_.files().size(), 3u);
}

TEST_P(OffloadTest, AFileThatBecomesShorterFailsStepsAndNoMore) {
  const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn("disk"));
  auto executor = TryStart(tiny_, plan, folder_.path());
  ASSERT_TRUE(executor.ok()) << executor.status();
  ExpectFailsWithout(*executor, folder_.files()[0], /*afterwards=*/"");
}

// What it holds now may be of another model, whatever its size.
TEST_P(OffloadTest, ACheckpointThatIsWrittenToFailsSteps) {
  if (tiny_.spec().layers[0].mlp.up.transposed) GTEST_SKIP() << "is packed";
  const Plan plan = PlanFor(tiny_.spec(), "simulated:1x64MiB", AllIn("disk"));
  auto executor = TryStart(tiny_, plan, folder_.path(), {}, /*reference=*/true);
  ASSERT_TRUE(executor.ok()) << executor.status();
  ExpectFailsWithout(*executor, fs::path(tiny_.folder()) / "model.safetensors", /*afterwards=*/"written to");
}

INSTANTIATE_TEST_SUITE_P(Models, OffloadTest,
                         ::testing::Values(TinyLlama(), TinyLlama(Json{{"tie_word_embeddings", true}}), TinyGpt2(),
                                           TinyQwen3Moe()));

}  // namespace
}  // namespace causeway
