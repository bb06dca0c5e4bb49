#include "engine/plan/capacity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/limits.h"
#include "engine/checkpoint/json.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20, kGiB = 1 << 30;

MATCHER_P2(Sequences, tokens, count, "") { return arg.tokens == tokens && arg.count == count; }

Plan MustPlan(const ModelSpec& spec, const std::vector<Device>& devices, const PlanOptions& options) {
  absl::StatusOr<Plan> plan = MakePlan(spec, devices, options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *std::move(plan) : Plan();
}

std::vector<Device> Gpus(const std::string& text) {
  return *ParseDevices(text, [] { return absl::StatusOr<std::vector<Device>>(std::vector<Device>()); });
}

TEST(CapacityTest, SequencesThatTheCacheHoldsByLength) {
  PlanOptions options = TestOptions("auto");
  options.kv_cache_tokens = 20'000;
  const Plan plan = MustPlan(TestLlama({.context = 10'000}), TestDevices({64 * kMiB}), options);
  // 1,250 blocks; a sequence of 10,000 tokens has 625 of them.
  EXPECT_THAT(CapacityOf(plan).sequences,
              ElementsAre(Sequences(10'000, 2), Sequences(8192, 2), Sequences(2048, 9), Sequences(512, 39)));
  EXPECT_THAT(CapacityRemarks(plan)[0],
              testing::EndsWith("): 2 sequences of 10,000 tokens, 2 of 8,192, 9 of 2,048, 39 of 512, or 4 of 4,992."));
  const Json json = *ParseJson(PlanJson(plan), "plan");
  EXPECT_EQ(
      json["kv_cache"]["sequences"],
      Json::parse(
          R"([{"tokens": 10000, "count": 2}, {"tokens": 8192, "count": 2}, {"tokens": 2048, "count": 9}, {"tokens": 512, "count": 39}])"));
}

// As many as are said to fit do, with the KV cache that one would then have.
TEST(CapacityTest, WhatIsWorthSettingFits) {
  const ModelSpec spec = TestLlama({.context = 4096});
  PlanOptions options = TestOptions("auto");
  options.max_num_batched_tokens = 4096;
  options.kv_cache_tokens = 100'000;
  Plan plan = MustPlan(spec, TestDevices({64 * kMiB, 64 * kMiB}), options);
  Capacity capacity = CapacityOf(plan);
  EXPECT_EQ(capacity.seqs_worth, 100'000 / 2048) << "the cache that was asked for bounds it";
  EXPECT_EQ(capacity.reason,
            "as many sequences of 2,048 tokens as have room; whether fewer are faster is not known here");
  EXPECT_THAT(PlanTable(plan, false), HasSubstr("max_num_seqs may be up to 48: as many"));
  // Left to the plan, the cache is what 4 sequences take at most, and grows with them.
  options.kv_cache_tokens = -1;
  plan = MustPlan(spec, TestDevices({64 * kMiB, 64 * kMiB}), options);
  EXPECT_EQ(plan.kv_blocks, 4 * 4096 / kBlockTokens);
  capacity = CapacityOf(plan);
  EXPECT_GT(capacity.seqs_worth, 100);
  options.max_num_seqs = capacity.seqs_worth;
  plan = MustPlan(spec, TestDevices({64 * kMiB, 64 * kMiB}), options);
  EXPECT_GE(plan.kv_blocks * kBlockTokens, capacity.seqs_worth * 2048);
  EXPECT_EQ(CapacityOf(plan).seqs_worth, capacity.seqs_worth);
  // Each running sequence takes a token of a step.
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 32;
  capacity = CapacityOf(MustPlan(spec, TestDevices({64 * kMiB, 64 * kMiB}), options));
  EXPECT_EQ(capacity.seqs_worth, 32);
  EXPECT_THAT(capacity.reason, HasSubstr("max_num_batched_tokens"));
}

// Each sequence is a row of logits: with a large vocabulary that is most of what it takes.
TEST(CapacityTest, LogitsOfTheSequencesAreCounted) {
  const ModelSpec spec = TestLlama({.vocab = 200'000, .context = 2048});
  PlanOptions options = TestOptions("auto");
  options.max_num_batched_tokens = 1024;
  const std::vector<Device> devices = TestDevices({256 * kMiB});
  const Capacity capacity = CapacityOf(MustPlan(spec, devices, options));
  EXPECT_GT(capacity.seqs_worth, 4);
  EXPECT_LT(capacity.seqs_worth, 1024);
  options.max_num_seqs = capacity.seqs_worth;
  EXPECT_GE(MustPlan(spec, devices, options).kv_blocks * kBlockTokens, capacity.seqs_worth * 2048);
  options.max_num_seqs = capacity.seqs_worth + 1;
  const absl::StatusOr<Plan> more = MakePlan(spec, devices, options);
  EXPECT_TRUE(!more.ok() || more->kv_blocks * kBlockTokens < options.max_num_seqs * 2048);
}

TEST(CapacityTest, ComputingBoundsTheBatchOfDevicesThatAreKnown) {
  // Of 8 B parameters: an H100 does 989 TFLOPS in bf16 and reads 3350 GB/s, 295 operations a byte, and a bf16 weight is
  // 2 of either.
  const LlamaShape shape{.layers = 32,
                         .hidden = 4096,
                         .intermediate = 14336,
                         .vocab = 128256,
                         .heads = 32,
                         .kv_heads = 8,
                         .context = 8192};
  PlanOptions options;
  options.kv_dtype = DType::kI8;
  Plan plan = MustPlan(TestLlama(shape), Gpus("8xH100-80GB"), options);
  Capacity capacity = CapacityOf(plan);
  EXPECT_NEAR(static_cast<double>(capacity.seqs_worth), 989.0 / 3.35, 25)
      << "and the embedding, which is held and not multiplied with";
  EXPECT_THAT(capacity.reason, HasSubstr("computing takes longer than reading the weights"));
  EXPECT_THAT(PlanTable(plan, false),
              HasSubstr(absl::StrCat("max_num_seqs ", capacity.seqs_worth, " is worth setting: with more, computing")));
  EXPECT_EQ((*ParseJson(PlanJson(plan), "plan"))["worth_setting"]["max_num_seqs"], capacity.seqs_worth);
  // Of eight experts two are computed and all are read.
  const ModelSpec experts = TestSpec({{"model_type", "mixtral"},
                                      {"vocab_size", 32000},
                                      {"hidden_size", 4096},
                                      {"intermediate_size", 14336},
                                      {"num_hidden_layers", 32},
                                      {"num_attention_heads", 32},
                                      {"num_key_value_heads", 8},
                                      {"num_local_experts", 8},
                                      {"num_experts_per_tok", 2},
                                      {"max_position_embeddings", 32768}},
                                     DType::kBF16);
  capacity = CapacityOf(MustPlan(experts, Gpus("8xB200-180GB"), options));
  EXPECT_NEAR(static_cast<double>(capacity.seqs_worth), 2250.0 / 7.7 * 46.7 / 12.9, 40);
  // Where the KV cache is what bounds it, the devices' speed is not said.
  capacity = CapacityOf(MustPlan(TestLlama(shape), Gpus("1xH100-80GB"), PlanOptions()));
  EXPECT_LT(capacity.seqs_worth, 295);
  EXPECT_EQ(capacity.reason, "as many sequences of 2,048 tokens as have room");
}

TEST(CapacityTest, NothingWithoutAKvCache) {
  PlanOptions options = TestOptions("auto");
  options.kv_cache_tokens = 0;
  const Plan plan = MustPlan(TestLlama({}), TestDevices({kGiB}), options);
  EXPECT_THAT(CapacityRemarks(plan),
              ElementsAre("No KV cache in this plan: weights alone, as device maps of the field count."));
  EXPECT_TRUE((*ParseJson(PlanJson(plan), "plan"))["kv_cache"]["sequences"].empty());
}

}  // namespace
}  // namespace causeway
