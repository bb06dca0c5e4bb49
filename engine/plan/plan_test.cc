#include "engine/plan/plan.h"

#include <algorithm>
#include <chrono>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/limits.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr int64_t kMiB = 1 << 20;

TEST(PlanTest, OneDeviceHoldsAll) {
  const ModelSpec spec = TestLlama({.layers = 4});
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({64 * kMiB}), TestOptions("auto"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_THAT(plan->device_map, UnorderedElementsAre(Pair("", "0")));
  ASSERT_EQ(plan->segments.size(), 1u);
  EXPECT_EQ(plan->kv_blocks, 4 * 256 / kBlockTokens) << "max_num_seqs sequences of the context";
  EXPECT_EQ(plan->options.max_model_len, 256);
  EXPECT_EQ(plan->options.kv_cache_tokens, 1024);
  EXPECT_EQ(plan->kv_bytes_per_token, 4 * 2 * 2 * 8 * 2);
  EXPECT_EQ(plan->devices[0].kv_cache, 1024 * plan->kv_bytes_per_token);
}

TEST(PlanTest, AnInt8KvCacheHasIntegersAndScales) {
  const ModelSpec spec = TestLlama({.layers = 4});
  PlanOptions options = TestOptions("auto");
  options.kv_dtype = DType::kI8;
  options.kv_cache_tokens = 512;
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({64 * kMiB}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_EQ(plan->kv_bytes_per_token, 4 * 2 * 2 * (8 + 4))
      << "layers, keys and values, heads of 8 dimensions and a scale";
  EXPECT_EQ(plan->devices[0].kv_cache, 512 * plan->kv_bytes_per_token);
  EXPECT_THAT(PlanTable(*plan, false), testing::HasSubstr("int8"));
}

TEST(PlanTest, EqualDevicesGetEvenStages) {
  const ModelSpec spec = TestLlama({.layers = 8, .hidden = 64, .intermediate = 256});
  const absl::StatusOr<Plan> plan =
      MakePlan(spec, TestDevices({8 * kMiB, 8 * kMiB, 8 * kMiB, 8 * kMiB}), TestOptions("auto"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_EQ(plan->segments.size(), 4u);
  for (const DevicePlan& device : plan->devices) EXPECT_GE(device.units.size(), 2u);
}

TEST(PlanTest, KvCacheTakesWhatIsLeft) {
  const ModelSpec spec = TestLlama({.layers = 4, .heads = 4, .kv_heads = 4, .context = 8192});
  PlanOptions options = TestOptions("auto");
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({8 * kMiB}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_LT(plan->kv_blocks, 4 * 8192 / kBlockTokens);
  EXPECT_GE(plan->kv_blocks, 8192 / kBlockTokens);
  EXPECT_LT(plan->devices[0].free, kBlockTokens * plan->kv_bytes_per_token);
}

TEST(PlanTest, WithoutKvCacheItIsTheFieldsViewOfWeights) {
  const ModelSpec spec = TestLlama({.layers = 4});
  PlanOptions options = TestOptions("balanced");
  options.kv_cache_tokens = 0;
  const int64_t total = TestBytes(spec);
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({total, total}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  for (const DevicePlan& device : plan->devices) EXPECT_EQ(device.free, total - device.weights);
  EXPECT_THAT(PlanTable(*plan, false), HasSubstr("weights alone"));
}

TEST(PlanTest, TiedHeadComesBackUnderTheFieldsRules) {
  const ModelSpec spec = TestLlama({.layers = 6, .hidden = 64, .intermediate = 256, .vocab = 2048, .tied = true});
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({16 * kMiB, 16 * kMiB}), TestOptions("balanced"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  ASSERT_EQ(plan->segments.size(), 3u);
  EXPECT_EQ(plan->segments[2].device(), plan->segments[0].device());
  EXPECT_EQ(plan->segments[2].units.first, 8);
  EXPECT_FALSE(plan->tied_head_copied);
  EXPECT_EQ(plan->device_map.at("lm_head"), "0");
}

TEST(PlanTest, AutoCopiesATiedHeadOnlyWhereThatIsNoFuller) {
  // The device in the middle is the fullest, and a copy beside the last layers does not change that.
  const ModelSpec small = TestLlama({.layers = 10, .hidden = 64, .intermediate = 256, .vocab = 64, .tied = true});
  PlanOptions options = TestOptions("auto");
  options.kv_cache_tokens = 256;
  const absl::StatusOr<Plan> copied = MakePlan(small, TestDevices({8 * kMiB, 8 * kMiB, 8 * kMiB}), options);
  ASSERT_TRUE(copied.ok()) << copied.status();
  CheckPlan(small, *copied);
  EXPECT_TRUE(copied->tied_head_copied);
  EXPECT_EQ(copied->segments.size(), 3u);
  EXPECT_THAT(PlanTable(*copied, false), HasSubstr("has a copy"));
  // A large one: a copy would be the fullest device's.
  const ModelSpec large = TestLlama({.layers = 9, .hidden = 64, .intermediate = 256, .vocab = 9000, .tied = true});
  const absl::StatusOr<Plan> back = MakePlan(large, TestDevices({8 * kMiB, 8 * kMiB}), options);
  ASSERT_TRUE(back.ok()) << back.status();
  CheckPlan(large, *back);
  EXPECT_FALSE(back->tied_head_copied);
  EXPECT_EQ(back->segments.back().device(), back->segments.front().device());
}

TEST(PlanTest, CustomMap) {
  const ModelSpec spec = TestLlama({.layers = 4, .tied = true});
  PlanOptions options = TestOptions("custom");
  options.custom_map = {{"", "0"}, {"model.layers.2", "simulated:1"}, {"model.layers.3", "1"}, {"lm_head", "1"}};
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({16 * kMiB, 16 * kMiB}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_TRUE(plan->tied_head_copied);
  EXPECT_EQ(plan->segments.size(), 4u) << "the final norm is on 0 again";
  options.custom_map["lm_head"] = "disk";
  EXPECT_THAT(
      PlanRefusal(MakePlan(spec, TestDevices({16 * kMiB, 16 * kMiB}), options), absl::StatusCode::kFailedPrecondition),
      AllOf(HasSubstr("lm_head"), HasSubstr("offload_folder")));
  options.custom_map["lm_head"] = "cpu";
  EXPECT_THAT(
      PlanRefusal(MakePlan(spec, TestDevices({16 * kMiB, 16 * kMiB}), options), absl::StatusCode::kFailedPrecondition),
      AllOf(HasSubstr("lm_head"), HasSubstr("max_memory")));
  options.custom_map = {{"model", "0"}};
  EXPECT_TRUE(MakePlan(spec, TestDevices({16 * kMiB}), options).ok())
      << "lm_head's weight is the embedding's, which is covered"
      << MakePlan(spec, TestDevices({16 * kMiB}), options).status();
  options.custom_map = {{"lm_head", "0"}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, TestDevices({16 * kMiB}), options), absl::StatusCode::kInvalidArgument),
              HasSubstr("no entry covers"));
}

TEST(PlanTest, EntriesOfACustomMapBelowAPartCount) {
  const ModelSpec spec = TestLlama({.layers = 4});
  const std::vector<Device> devices = TestDevices({16 * kMiB, 16 * kMiB});
  PlanOptions options = TestOptions("custom");
  options.custom_map = {{"", "0"}, {"lm_head.weight", "1"}};
  for (const char* child : {"mlp", "self_attn", "input_layernorm", "post_attention_layernorm"}) {
    options.custom_map[absl::StrCat("model.layers.1.", child)] = "1";
  }
  const absl::StatusOr<Plan> plan = MakePlan(spec, devices, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_THAT(plan->devices[1].units, ElementsAre(2, 6));
  // What is computed needs no entry.
  options.custom_map = {{"model.embed_tokens", "0"}, {"model.layers", "0"}, {"model.norm", "1"}, {"lm_head", "1"}};
  const absl::StatusOr<Plan> parameters = MakePlan(spec, devices, options);
  ASSERT_TRUE(parameters.ok()) << parameters.status();
  CheckPlan(spec, *parameters);
  EXPECT_THAT(parameters->devices[1].units, ElementsAre(5, 6));
}

// Filling a device to its budget leaves room for what serving needs beside the weights.
TEST(PlanTest, SequentialLeavesRoomForTheKvCache) {
  const ModelSpec spec =
      TestLlama({.layers = 12, .hidden = 128, .intermediate = 512, .heads = 4, .kv_heads = 4, .context = 4096});
  for (const char* policy : {"sequential", "balanced"}) {
    for (const int64_t size : {8, 9, 12, 16, 40}) {
      const absl::StatusOr<Plan> plan =
          MakePlan(spec, TestDevices(std::vector<int64_t>(6, size * kMiB)), TestOptions(policy));
      ASSERT_TRUE(plan.ok()) << policy << " over devices of " << size << " MiB: " << plan.status();
      CheckPlan(spec, *plan);
      EXPECT_GE(plan->kv_blocks, 4096 / kBlockTokens);
    }
  }
}

TEST(PlanTest, OneDeviceByName) {
  const ModelSpec spec = TestLlama({});
  const std::vector<Device> devices = TestDevices({16 * kMiB, 16 * kMiB});
  for (const char* name : {"1", "simulated:1"}) {
    const absl::StatusOr<Plan> plan = MakePlan(spec, devices, TestOptions(name));
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_THAT(plan->device_map, UnorderedElementsAre(Pair("", "1")));
  }
  for (const char* name : {"2", "cpu", "cuda:0", "optimal", ""}) {
    EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, TestOptions(name)), absl::StatusCode::kInvalidArgument),
                AllOf(HasSubstr(absl::StrCat("\"", name, "\"")), HasSubstr("simulated:0, simulated:1")));
  }
}

TEST(PlanTest, EmbeddingsThatAMapSeparatesAreRefused) {
  const Json config = {{"model_type", "gpt2"}, {"vocab_size", 96}, {"n_embd", 32},
                       {"n_layer", 2},         {"n_head", 4},      {"n_positions", 64}};
  const ModelSpec spec = TestSpec(config, DType::kBF16);
  PlanOptions options = TestOptions("custom");
  options.custom_map = {{"", "0"}, {"transformer.wpe", "1"}};
  EXPECT_THAT(
      PlanRefusal(MakePlan(spec, TestDevices({16 * kMiB, 16 * kMiB}), options), absl::StatusCode::kUnimplemented),
      AllOf(HasSubstr("transformer.wte"), HasSubstr("transformer.wpe")));
}

TEST(PlanTest, BudgetsFromMaxMemory) {
  const ModelSpec spec = TestLlama({.layers = 8});
  const std::vector<Device> devices = TestDevices({16 * kMiB, 16 * kMiB, 16 * kMiB});
  PlanOptions options = TestOptions("auto");
  options.max_memory = {{"0", 8 * kMiB}, {"2", 10 * kMiB}, {"disk", 1}};
  const absl::StatusOr<Plan> plan = MakePlan(spec, devices, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_EQ(plan->devices[0].budget, 8 * kMiB);
  EXPECT_EQ(plan->devices[1].budget, 0) << "not listed, not used";
  EXPECT_TRUE(plan->devices[1].units.empty());
  options.max_memory = {{"", 8 * kMiB}, {"1", 9 * kMiB}};
  EXPECT_THAT(MakePlan(spec, devices, options)->devices[1].budget, 9 * kMiB);
  EXPECT_THAT(MakePlan(spec, devices, options)->devices[2].budget, 8 * kMiB);

  options.max_memory = {{"5", 8 * kMiB}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              AllOf(HasSubstr("device 5"), HasSubstr("simulated:2")));
  options.max_memory = {{"0", 17 * kMiB}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              AllOf(HasSubstr("17 MiB"), HasSubstr("16 MiB")));
  options.max_memory = {{"0", 0}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              HasSubstr("no device with a budget"));
  options.max_memory = {{"cpu", 8 * kMiB}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              HasSubstr("CPU alone"));
}

TEST(PlanTest, CpuSharesItsMemory) {
  const ModelSpec spec = TestLlama({.layers = 4, .context = 1 << 20});
  const int64_t per_sequence = (int64_t{1} << 20) * 4 * 2 * 2 * 8 * 2;  // 256 MiB
  Device cpu{DeviceKind::kCpu, 0, "cpu", "test", 64 * 1024 * kMiB, 40 * 1024 * kMiB};
  PlanOptions options = TestOptions("auto");
  options.max_num_seqs = options.max_num_batched_tokens = 1000;
  options.reference_ops = false;
  absl::StatusOr<Plan> plan = MakePlan(spec, {cpu}, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  EXPECT_EQ(plan->devices[0].budget, cpu.available_bytes / 10 * 9);
  EXPECT_EQ(plan->devices[0].kv_cache, 8192 * kMiB);
  EXPECT_THAT(PlanTable(*plan, false), HasSubstr("takes 8 GiB at most"));
  EXPECT_THAT(plan->device_map, UnorderedElementsAre(Pair("", "cpu")));
  options.kv_cache_tokens = 2 << 20;  // as asked, and not for others' sake
  EXPECT_THAT(PlanTable(*MakePlan(spec, {cpu}, options), false), Not(HasSubstr("8 GiB at most")));
  options.kv_cache_tokens = -1;

  cpu.available_bytes = 4096 * kMiB;  // half of what is left
  plan = MakePlan(spec, {cpu}, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->devices[0].kv_cache, plan->devices[0].free);
  EXPECT_GT(plan->devices[0].kv_cache, plan->devices[0].free - 2 * kMiB);

  options.max_memory = {{"cpu", 4000 * kMiB}};  // a budget of its own may be used up
  plan = MakePlan(spec, {cpu}, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LT(plan->devices[0].free, kMiB);
  options.max_memory = {{"", 4000 * kMiB}};
  EXPECT_EQ(MakePlan(spec, {cpu}, options)->devices[0].budget, 4000 * kMiB) << "without GPUs, for the CPU";
  options.max_memory = {{"cpu", 5000 * kMiB}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, {cpu}, options), absl::StatusCode::kFailedPrecondition),
              HasSubstr("free now"));

  options.max_memory.clear();
  options.max_num_seqs = 1;
  options.max_num_batched_tokens = 16;
  const int64_t rest = plan->devices[0].weights + ActivationBytes(spec, plan->devices[0].units, options);
  cpu.available_bytes = (rest + per_sequence) / 9 * 10 + kMiB;  // one sequence is allowed more than half
  plan = MakePlan(spec, {cpu}, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->devices[0].kv_cache, per_sequence);
}

TEST(PlanTest, CudaKeepsAReserve) {
  const ModelSpec spec = TestLlama({.layers = 4});
  std::vector<Device> devices;
  for (int id = 0; id < 2; ++id)
    devices.push_back({DeviceKind::kCuda, id, absl::StrCat("cuda:", id), "GPU", 8192 * kMiB, 8000 * kMiB});
  const absl::StatusOr<Plan> plan = MakePlan(spec, devices, TestOptions("cuda:1"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  CheckPlan(spec, *plan);
  // Of the context, libraries and segments; of 8 GiB in blocks of 512 bytes; and twice the weights, all of which are
  // small.
  EXPECT_EQ(plan->devices[1].reserve, 692 * kMiB + 4 * kMiB + 2 * kMiB + 2 * 91648);
  EXPECT_EQ(plan->devices[1].budget, 7200 * kMiB);
  EXPECT_EQ(plan->devices[0].reserve, 0) << "not in use";
}

TEST(PlanTest, LargeModelsOn64DevicesInMilliseconds) {
  const ModelSpec dense = TestLlama({.layers = 100,
                                     .hidden = 8192,
                                     .intermediate = 28672,
                                     .vocab = 128256,
                                     .heads = 64,
                                     .kv_heads = 8,
                                     .context = 131072});
  // MiniMax-M2: near 16,000 experts.
  const ModelSpec experts = TestMiniMaxM2();
  const std::vector<Device> devices = TestDevices(std::vector<int64_t>(64, int64_t{80} << 30));
  for (const ModelSpec* spec : {&dense, &experts}) {
    double least = 1e9;
    for (int i = 0; i < 3; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const absl::StatusOr<Plan> plan = MakePlan(*spec, devices, PlanOptions());
      least =
          std::min(least, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
      ASSERT_TRUE(plan.ok()) << plan.status();
    }
    RecordProperty(absl::StrCat(spec->architecture, " milliseconds"), absl::StrCat(least));
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(least, 100) << spec->architecture << ", milliseconds";  // about 10 on a quiet machine
#endif
  }
}

}  // namespace
}  // namespace causeway
