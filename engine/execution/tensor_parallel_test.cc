// Layers that several devices share: the tokens of one device, whatever is cut, and the memory of the plan.
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/architecture/quantization.h"
#include "engine/architecture/shard.h"
#include "engine/execution/testing.h"
#include "tests/support/temporary_folder.h"

namespace causeway {
namespace {

using testing::DriveOptions;
using testing::Driver;
using ::testing::HasSubstr;
using testing::kPrompts;
using testing::PlanFor;
using testing::Start;
using testing::TemporaryFolder;

Json TinyMiniMax() {
  return TinyLlama({{"model_type", "minimax_m2"},
                    {"head_dim", 16},
                    {"rotary_dim", 8},
                    {"intermediate_size", 48},
                    {"num_local_experts", 8},
                    {"num_experts_per_tok", 2},
                    {"scoring_func", "sigmoid"},
                    {"use_qk_norm", true},
                    {"use_routing_bias", true}});
}

PlanOptions Ranks(int size) {
  PlanOptions options;
  options.parallel.tp = size;
  return options;
}

std::string Devices(int count) { return absl::StrCat("simulated:", count, "x64MiB"); }

class TensorParallelTest : public ::testing::TestWithParam<Json> {
 protected:
  TensorParallelTest() : tiny_(GetParam()) {}

  // Groups and numbers of devices that the model can be cut for.
  std::vector<std::pair<int, int>> Shapes() const {
    std::vector<std::pair<int, int>> shapes;
    for (const int size : GroupSizes(tiny_.spec(), 4)) {
      if (size == 1) continue;
      shapes.emplace_back(size, size);
      shapes.emplace_back(size, 2 * size);
    }
    EXPECT_GE(shapes.size(), 2u);
    return shapes;
  }

  std::vector<std::vector<int32_t>> Tokens(const Plan& plan, const DriveOptions& drive, bool reference = false) {
    auto executor = Start(tiny_, plan, reference);
    return Driver(*executor, kPrompts, drive).Run();
  }

  const TinyCheckpoint tiny_;
};

TEST_P(TensorParallelTest, GroupsGiveTheTokensOfOneDevice) {
  const auto expected = Tokens(PlanFor(tiny_.spec(), Devices(1)), {});
  SamplingParams sampling{.temperature = 0.9, .top_p = 0.95, .frequency_penalty = 0.8};
  sampling.seed = 77;
  const auto sampled = Tokens(PlanFor(tiny_.spec(), Devices(1)), {.sampling = sampling});
  for (const auto& [size, devices] : Shapes()) {
    SCOPED_TRACE(absl::StrCat("groups of ", size, " on ", devices));
    const Plan plan = PlanFor(tiny_.spec(), Devices(devices), Ranks(size));
    ASSERT_EQ(plan.segments.front().devices.size(), static_cast<size_t>(size));
    EXPECT_EQ(Tokens(plan, {}), expected);
    EXPECT_EQ(Tokens(plan, {.chunk = 5, .ahead = true}), expected);
    EXPECT_EQ(Tokens(plan, {}, /*reference=*/true), expected);
    EXPECT_EQ(Tokens(plan, {.chunk = 7, .ahead = true, .sampling = sampling}), sampled);
  }
}

// Logprobs take whole rows, and change no token.
TEST_P(TensorParallelTest, TokensFromCandidatesAreThoseFromWholeRows) {
  std::vector<SamplingParams> all = {{.temperature = 0}};
  for (const int32_t top_k : {2, 3}) {
    all.push_back({.temperature = 1.5, .top_k = top_k, .seed = 5});
    all.push_back({.temperature = 1.5, .top_k = top_k, .top_p = 0.8, .min_p = 0.1, .typical_p = 0.9, .seed = 9});
  }
  for (const auto& [size, devices] : Shapes()) {
    auto executor = Start(tiny_, PlanFor(tiny_.spec(), Devices(devices), Ranks(size)));
    const auto sent = [&] {
      int64_t bytes = 0;
      for (const DeviceStats& device : executor->Stats().devices) bytes += device.collectives.bytes;
      return bytes;
    };
    for (SamplingParams sampling : all) {
      SCOPED_TRACE(absl::StrCat("groups of ", size, " on ", devices, ", top_k ", sampling.top_k));
      int64_t bytes[2];
      std::vector<std::vector<int32_t>> tokens[2];
      for (const bool whole : {false, true}) {
        sampling.logprobs = whole;
        bytes[whole] = -sent();
        tokens[whole] = Driver(*executor, kPrompts, {.tokens = 12, .sampling = sampling}).Run();
        bytes[whole] += sent();
      }
      EXPECT_EQ(tokens[false], tokens[true]);
      EXPECT_LT(bytes[false], bytes[true]);
    }
  }
}

TEST_P(TensorParallelTest, LogitsAreThoseOfOneDevice) {
  auto one = Start(tiny_, PlanFor(tiny_.spec(), Devices(1)));
  Driver whole(*one, kPrompts, {.tokens = 4, .all_logits = true});
  whole.Run();
  for (const auto& [size, devices] : Shapes()) {
    auto group = Start(tiny_, PlanFor(tiny_.spec(), Devices(devices), Ranks(size)));
    Driver cut(*group, kPrompts, {.tokens = 4, .all_logits = true});
    cut.Run();
    for (size_t i = 0; i < kPrompts.size(); ++i) {
      ASSERT_EQ(cut.logits(i).size(), (kPrompts[i].size() + 3) * tiny_.spec().vocab_size);
      float worst = 0;
      for (size_t j = 0; j < cut.logits(i).size(); ++j)
        worst = std::max(worst, std::abs(cut.logits(i)[j] - whole.logits(i)[j]));
      EXPECT_LT(worst, 2e-4) << "groups of " << size << ", prompt " << i;
    }
  }
}

TEST_P(TensorParallelTest, AnInt8KvCacheAndQuantizedWeightsAreCutAlike) {
  for (const char* quantize : {"", "int8", "int4"}) {
    ModelSpec spec = tiny_.spec();
    const absl::StatusOr<WeightFormat> format = ParseQuantize(quantize);
    ASSERT_TRUE(format.ok() && QuantizeOnLoad(*format, spec).ok());
    PlanOptions options;
    options.kv_dtype = DType::kI8;
    const auto run = [&](int devices) {
      auto executor =
          MakeExecutor(spec, tiny_.checkpoint(), PlanFor(spec, Devices(devices), options), {.cpu_threads = 2}, nullptr);
      if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
      return Driver(**executor, kPrompts, {}).Run();
    };
    const auto expected = run(1);
    for (const int size : GroupSizes(spec, 4)) {
      options.parallel.tp = size;
      EXPECT_EQ(run(size), expected) << quantize << ", groups of " << size;
    }
  }
}

TEST_P(TensorParallelTest, WeightsOffTheDevicesAreEachRanksOwn) {
  const auto expected = Tokens(PlanFor(tiny_.spec(), Devices(1)), {});
  const TemporaryFolder folder("ranks");
  for (const char* tier : {"cpu", "disk"}) {
    PlanOptions options = Ranks(2);
    options.device_map = "custom";
    options.custom_map = {{"", tier}};
    options.offload_to_disk = true;
    if (std::string(tier) == "cpu")
      options.max_memory = {{"0", int64_t{64} << 20}, {"1", int64_t{64} << 20}, {"cpu", int64_t{64} << 20}};
    const Plan plan = PlanFor(tiny_.spec(), Devices(2), options);
    EXPECT_GT(plan.offloaded_to_cpu + plan.offloaded_to_disk, 0);
    for (int round = 0; round < 2; ++round) {  // the second reads what the first wrote
      auto executor = MakeExecutor(tiny_.spec(), tiny_.checkpoint(), plan,
                                   {.cpu_threads = 2, .offload_folder = folder.path(), .offload_cpu_rows = 0}, nullptr);
      ASSERT_TRUE(executor.ok()) << executor.status();
      EXPECT_EQ(Driver(**executor, kPrompts, {.chunk = 5, .ahead = true}).Run(), expected) << tier;
      for (const DeviceStats& device : (*executor)->Stats().devices) EXPECT_GT(device.streamed_bytes, 0);
    }
  }
}

// One rank's file is cut: it says so, the other does not wait for it, and both go on once the file is whole.
TEST_P(TensorParallelTest, ARankThatCannotReadItsWeightsEndsTheStepForAll) {
  const TemporaryFolder folder("cut");
  PlanOptions options = Ranks(2);
  options.device_map = "custom";
  options.custom_map = {{"", "disk"}};
  options.offload_to_disk = true;
  auto executor = MakeExecutor(tiny_.spec(), tiny_.checkpoint(), PlanFor(tiny_.spec(), Devices(2), options),
                               {.cpu_threads = 2, .offload_folder = folder.path()}, nullptr);
  ASSERT_TRUE(executor.ok()) << executor.status();
  std::filesystem::path file;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) file = entry.path();
  const auto size = std::filesystem::file_size(file);
  const std::string copy = tiny_.folder() + "/copy";
  std::filesystem::copy_file(file, copy);
  std::filesystem::resize_file(file, 8192);
  const auto run = [&](uint64_t step) {
    StepPlan plan;
    plan.step = step;
    plan.tokens = plan.prefill_tokens = 3;
    auto start = std::make_shared<SequenceStart>();
    plan.sequences.push_back(
        {.sequence = step, .slot = 0, .tokens = {1, 2, 3}, .block_table = {0}, .sample = true, .start = start});
    (*executor)->Run(std::move(plan));
    return (*executor)->Wait().status;
  };
  const absl::Status cut = run(1);
  EXPECT_FALSE(cut.ok());
  EXPECT_FALSE(absl::IsAborted(cut)) << cut << ", which is the other rank's word";
  {
    std::ofstream whole(file, std::ios::binary | std::ios::in | std::ios::out);
    whole << std::ifstream(copy, std::ios::binary).rdbuf();
  }
  EXPECT_EQ(std::filesystem::file_size(file), size);
  const absl::Status again = run(2);
  EXPECT_TRUE(again.ok()) << again;
}

TEST_P(TensorParallelTest, MemoryOfEachRankIsThePlans) {
  for (const auto& [size, devices] : Shapes()) {
    const Plan plan = PlanFor(tiny_.spec(), Devices(devices), Ranks(size));
    auto executor = Start(tiny_, plan, /*reference=*/true);  // its weights are as large as the checkpoint's
    Driver(*executor, kPrompts, {.ahead = true}).Run();
    const ExecutorStats stats = executor->Stats();
    for (size_t i = 0; i < plan.devices.size(); ++i) {
      SCOPED_TRACE(absl::StrCat("groups of ", size, " on ", devices, ", device ", i));
      int64_t frequencies = 0;  // the field's count of tables that nothing here needs
      VisitParameters(tiny_.spec().modules, [&](const std::string& path, const Parameter& parameter) {
        if (path.find("rotary_emb") != std::string::npos) frequencies += parameter.bytes();
      });
      const int64_t held = stats.devices[i].memory.weights;
      EXPECT_TRUE(held == plan.devices[i].weights || held == plan.devices[i].weights - frequencies)
          << held << " " << plan.devices[i].weights;
      EXPECT_EQ(stats.devices[i].memory.kv_cache, plan.devices[i].kv_cache);
      EXPECT_LE(stats.devices[i].memory.activations_peak + stats.devices[i].memory.workspace,
                plan.devices[i].activations);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, TensorParallelTest,
    ::testing::Values(TinyLlama({{"attention_bias", true}, {"mlp_bias", true}}),
                      TinyLlama({{"tie_word_embeddings", true}, {"vocab_size", 101}}),
                      TinyLlama({{"model_type", "qwen3"}, {"num_attention_heads", 6}, {"head_dim", 16}}), TinyGpt2(),
                      TinyQwen3Moe(), TinyMiniMax()));

}  // namespace
}  // namespace causeway
