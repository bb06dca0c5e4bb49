#include "engine/execution/executor.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/quantization.h"
#include "engine/execution/testing.h"
#include "engine/execution/warm_up.h"
#include "engine/plan/ranks.h"

namespace causeway {
namespace {

using testing::DriveOptions;
using testing::Driver;
using testing::kPrompts;
using testing::PlanFor;
using testing::Start;

PlanOptions OneDevice() {
  PlanOptions options;
  options.device_map = "0";
  return options;
}

// A tied head that returns to the embedding's device: three segments on two devices.
PlanOptions ThereAndBack() {
  PlanOptions options;
  options.device_map = "custom";
  options.custom_map = {{"model.embed_tokens", "0"}, {"model.layers.0", "0"}, {"model.layers.1", "1"},
                        {"model.layers.2", "1"},     {"model.layers.3", "1"}, {"model.norm", "0"},
                        {"model.rotary_emb", "0"},   {"lm_head", "0"}};
  return options;
}

class ExecutorTest : public ::testing::TestWithParam<Json> {
 protected:
  ExecutorTest() : tiny_(GetParam()) {}

  std::vector<std::vector<int32_t>> Tokens(const Plan& plan, const DriveOptions& options, bool reference = false) {
    auto executor = Start(tiny_, plan, reference);
    return Driver(*executor, kPrompts, options).Run();
  }

  const TinyCheckpoint tiny_;
};

TEST_P(ExecutorTest, SplitsBatchesChunksAndPipelinesGiveTheSameTokens) {
  const Plan one = PlanFor(tiny_.spec(), "simulated:1x64MiB", OneDevice());
  const std::vector<std::vector<int32_t>> expected = Tokens(one, {});
  ASSERT_EQ(expected.size(), kPrompts.size());
  for (const std::vector<int32_t>& tokens : expected) ASSERT_EQ(tokens.size(), 24u);
  ASSERT_NE(expected[0], expected[3]);
  EXPECT_EQ(Tokens(one, {.one_by_one = true}), expected);
  EXPECT_EQ(Tokens(one, {.chunk = 5}), expected);
  EXPECT_EQ(Tokens(one, {.ahead = true}), expected);
  EXPECT_EQ(Tokens(one, {}, /*reference=*/true), expected);
  for (const char* devices : {"simulated:2x64MiB", "simulated:4x64MiB"}) {
    const Plan split = PlanFor(tiny_.spec(), devices);
    ASSERT_GT(split.segments.size(), 1u);
    EXPECT_EQ(Tokens(split, {}), expected) << devices;
    EXPECT_EQ(Tokens(split, {.chunk = 7, .ahead = true}), expected) << devices;
  }
}

TEST_P(ExecutorTest, SamplingDependsNeitherOnTheSplitNorOnTheBatch) {
  SamplingParams sampling;
  sampling.temperature = 0.9;
  sampling.top_p = 0.95;
  sampling.seed = 77;
  sampling.frequency_penalty = 0.8;
  sampling.repetition_penalty = 1.2;
  const Plan one = PlanFor(tiny_.spec(), "simulated:1x64MiB", OneDevice());
  const auto expected = Tokens(one, {.sampling = sampling});
  EXPECT_EQ(Tokens(one, {.one_by_one = true, .sampling = sampling}), expected);
  EXPECT_EQ(Tokens(one, {.chunk = 3, .ahead = true, .sampling = sampling}), expected);
  EXPECT_EQ(Tokens(PlanFor(tiny_.spec(), "simulated:4x64MiB"), {.ahead = true, .sampling = sampling}), expected);
  EXPECT_NE(Tokens(one, {.sampling = {.temperature = 0}}), expected);
}

TEST_P(ExecutorTest, LogitsOfEveryRowAreTheSameHoweverSplitAndChunked) {
  auto whole = Start(tiny_, PlanFor(tiny_.spec(), "simulated:1x64MiB", OneDevice()));
  auto split = Start(tiny_, PlanFor(tiny_.spec(), "simulated:4x64MiB"));
  Driver first(*whole, kPrompts, {.tokens = 5, .all_logits = true}),
      second(*split, kPrompts, {.tokens = 5, .chunk = 6, .all_logits = true});
  EXPECT_EQ(first.Run(), second.Run());
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    ASSERT_EQ(first.logits(i).size(), (kPrompts[i].size() + 4) * tiny_.spec().vocab_size);
    ASSERT_EQ(first.logits(i).size(), second.logits(i).size());
    float worst = 0;
    for (size_t j = 0; j < first.logits(i).size(); ++j)
      worst = std::max(worst, std::abs(first.logits(i)[j] - second.logits(i)[j]));
    EXPECT_LT(worst, 1e-4) << "prompt " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ExecutorTest,
                         ::testing::Values(TinyLlama(),
                                           TinyLlama({{"tie_word_embeddings", true}, {"attention_bias", true}}),
                                           TinyGpt2(), TinyQwen3Moe()));

TEST(ExecutorSplitTest, ADeviceMayBeVisitedTwice) {
  const TinyCheckpoint tiny(TinyLlama({{"tie_word_embeddings", true}}));
  auto one = Start(tiny, PlanFor(tiny.spec(), "simulated:1x64MiB", OneDevice()));
  const auto expected = Driver(*one, kPrompts, {}).Run();
  const Plan plan = PlanFor(tiny.spec(), "simulated:2x64MiB", ThereAndBack());
  ASSERT_EQ(plan.segments.size(), 3u);
  EXPECT_FALSE(plan.tied_head_copied);
  auto back = Start(tiny, plan);
  EXPECT_EQ(back->steps_in_flight(), 3);
  EXPECT_EQ(back->micro_batches(), 3);
  EXPECT_EQ(Driver(*back, kPrompts, {}).Run(), expected);
  EXPECT_EQ(Driver(*back, kPrompts, {.chunk = 4, .ahead = true}).Run(), expected);
}

TEST(ExecutorSplitTest, RefusesWhatTheSearchCallsNotServed) {
  const TinyCheckpoint tiny(TinyLlama());
  PlanOptions options;
  options.parallel.tp = 2;
  Plan plan = PlanFor(tiny.spec(), "simulated:2x64MiB", options);
  for (DevicePlan& device : plan.devices) device.device.kind = DeviceKind::kCuda;
  const absl::Status status = MakeExecutor(tiny.spec(), tiny.checkpoint(), plan, {}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(MissingForGroups(DeviceKind::kCuda, 2)));
}

TEST(ExecutorStatsTest, TransfersAreTheRowsThatCross) {
  const TinyCheckpoint tiny(TinyLlama({{"tie_word_embeddings", true}}));
  auto executor = Start(tiny, PlanFor(tiny.spec(), "simulated:2x64MiB", ThereAndBack()));
  EXPECT_TRUE(executor->Stats().transfers.empty());  // the warm-up doesn't count
  Driver(*executor, kPrompts, {.tokens = 3}).Run();
  // 43 prompt rows, then two steps of four rows; behind the last layer only the four that sample go on.
  const ExecutorStats stats = executor->Stats();
  ASSERT_EQ(stats.transfers.size(), 2u);
  EXPECT_EQ(stats.transfers[0].from, "simulated:0");
  EXPECT_EQ(stats.transfers[0].to, "simulated:1");
  EXPECT_EQ(stats.transfers[0].bytes, (43 + 2 * 4) * 64 * 4);
  EXPECT_EQ(stats.transfers[1].bytes, 3 * 4 * 64 * 4);
  for (const DeviceStats& device : stats.devices) {
    EXPECT_EQ(device.prefill_tokens, 43);
    EXPECT_EQ(device.decode_tokens, 8);
    EXPECT_GT(device.busy_seconds, 0);
    EXPECT_GE(device.active_seconds, device.busy_seconds);
  }
}

TEST(ExecutorStatsTest, MeasuredMemoryIsThePlans) {
  for (const Json& config : {TinyLlama({{"tie_word_embeddings", true}}), TinyLlama(), TinyGpt2(), TinyQwen3Moe()}) {
    const TinyCheckpoint tiny(config);
    for (const auto& [devices, kv_dtype] : {std::pair("simulated:1x64MiB", std::optional<DType>()),
                                            {"simulated:3x64MiB", std::nullopt},
                                            {"simulated:1x64MiB", DType::kI8},
                                            {"simulated:3x64MiB", DType::kI8}}) {
      PlanOptions options;
      options.kv_dtype = kv_dtype;
      const Plan plan = PlanFor(tiny.spec(), devices, options);
      auto executor = Start(tiny, plan, /*reference=*/true);  // its weights are as large as the checkpoint's
      Driver(*executor, kPrompts, {.ahead = true}).Run();
      const ExecutorStats stats = executor->Stats();
      ASSERT_EQ(stats.devices.size(), plan.devices.size());
      for (size_t i = 0; i < plan.devices.size(); ++i) {
        // The field's rotary module counts two tables of frequencies that nothing here needs.
        int64_t frequencies = 0;
        for (const ModulePlacement& module : plan.modules) {
          if (module.name == "model.rotary_emb" && module.device == plan.devices[i].device.key())
            frequencies = module.bytes;
        }
        EXPECT_EQ(stats.devices[i].memory.weights, plan.devices[i].weights - frequencies) << i;
        EXPECT_EQ(stats.devices[i].memory.kv_cache, plan.devices[i].kv_cache) << i;
        EXPECT_EQ(stats.devices[i].memory.activations, 0) << i;  // all of them came back
        EXPECT_GT(stats.devices[i].memory.activations_peak, 0) << i;
        EXPECT_LE(stats.devices[i].memory.activations_peak + stats.devices[i].memory.workspace,
                  plan.devices[i].activations)
            << i;
      }
    }
  }
}

TEST(ExecutorStatsTest, ExpertsCountTheirTokensWhateverDeviceTheyAreOn) {
  const TinyCheckpoint tiny(TinyQwen3Moe());
  std::map<int, ExpertLoad> one;
  for (const char* devices : {"simulated:1x64MiB", "simulated:3x64MiB"}) {
    auto executor = Start(tiny, PlanFor(tiny.spec(), devices));
    EXPECT_EQ(executor->Stats().experts.at(2).steps, 0);  // the warm-up doesn't count
    Driver(*executor, kPrompts, {.tokens = 3}).Run();
    const std::map<int, ExpertLoad> loads = executor->Stats().experts;
    ASSERT_EQ(loads.size(), 3u);  // the first layer has none
    for (const auto& [layer, load] : loads) {
      EXPECT_GE(layer, 1);
      EXPECT_EQ(load.steps, 3);
      ASSERT_EQ(load.tokens.size(), 8u);
      // Three experts for each of 43 prompt rows and two steps of four rows.
      const int64_t tokens = std::accumulate(load.tokens.begin(), load.tokens.end(), int64_t{0});
      EXPECT_EQ(tokens, 3 * (43 + 2 * 4));
      EXPECT_GE(load.busiest, tokens / 8);
      EXPECT_LE(load.busiest, 43 + 2 * 4);
      EXPECT_GE(load.busy, 3 * 3);
      EXPECT_LE(load.busy, 3 * 8);
      EXPECT_TRUE(one.empty() || load.tokens == one.at(layer).tokens) << layer;
    }
    one = loads;
  }
}

// Every dtype's worst step stays within what the plan reckons for it: one that is computed by the reference holds more.
TEST(ExecutorStatsTest, StepsOfEveryDTypeStayWithinThePlan) {
  const Json dense = TinyLlama({{"intermediate_size", 1024}, {"num_hidden_layers", 1}});
  // Wide experts behind a narrow MLP, wide rows through narrow experts, and many experts.
  const Json wide = TinyQwen3Moe({{"moe_intermediate_size", 512}, {"num_hidden_layers", 2}});
  const Json narrow = TinyQwen3Moe({{"hidden_size", 512}, {"moe_intermediate_size", 8}, {"num_hidden_layers", 2}});
  const Json many = TinyQwen3Moe(
      {{"num_experts", 256}, {"num_experts_per_tok", 1}, {"moe_intermediate_size", 8}, {"num_hidden_layers", 2}});
  struct Case {
    DType dtype;
    Json config;
    std::optional<DType> kv_dtype = std::nullopt;
  };
  for (const auto& [dtype, config, kv_dtype] : std::vector<Case>{{DType::kF32, dense},
                                                                 {DType::kBF16, dense},
                                                                 {DType::kF16, dense},
                                                                 {DType::kBF16, dense, DType::kI8},
                                                                 {DType::kF16, dense, DType::kI8},
                                                                 {DType::kF32, wide},
                                                                 {DType::kBF16, wide},
                                                                 {DType::kF16, wide},
                                                                 {DType::kBF16, narrow},
                                                                 {DType::kF16, narrow},
                                                                 {DType::kBF16, many},
                                                                 {DType::kF16, many}}) {
    const TinyCheckpoint tiny(config, 1, dtype);
    PlanOptions options;
    options.dtype = dtype;
    options.kv_dtype = kv_dtype;
    options.max_num_seqs = 4;
    options.max_num_batched_tokens = 1024;
    options.kv_cache_tokens = 2048;
    options.cpu_threads = 2;
    const Device device{DeviceKind::kSimulated, 0, "simulated:0", "test", 256 << 20, 256 << 20};
    const absl::StatusOr<Plan> plan = MakePlan(tiny.spec(), {device}, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const auto executor = MakeExecutor(tiny.spec(), tiny.checkpoint(), *plan, {.cpu_threads = 2}, nullptr);
    EXPECT_TRUE(executor.ok()) << DTypeName(dtype) << " " << config.dump() << ": " << executor.status();
  }
}

// A chunk's scores over its whole context are what the reference's attention holds most of: the warm-up has seen them.
TEST(ExecutorStatsTest, TheWarmUpHoldsWhatALongContextTakes) {
  const TinyCheckpoint tiny(TinyLlama({{"max_position_embeddings", 4096}, {"num_hidden_layers", 1}}));
  PlanOptions options;
  options.dtype = DType::kF32;
  options.reference_ops = true;
  options.max_num_seqs = 2;
  options.max_num_batched_tokens = 256;
  options.kv_cache_tokens = 4096;
  const Device device{DeviceKind::kSimulated, 0, "simulated:0", "test", 256 << 20, 256 << 20};
  const absl::StatusOr<Plan> plan = MakePlan(tiny.spec(), {device}, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  auto executor = Start(tiny, *plan, /*reference=*/true);
  const int64_t warm_up = executor->Stats().devices[0].memory.activations_peak;
  EXPECT_GT(warm_up, int64_t{255} * 4096 * 4 * 4) << "a score of each of four heads in fp32";
  StepPlan step;
  step.step = 1;
  step.tokens = step.prefill_tokens = 256;
  auto start = std::make_shared<SequenceStart>();
  step.sequences.push_back({.sequence = 1,
                            .slot = 0,
                            .tokens = std::vector<int32_t>(256, 7),
                            .context = 4096 - 256,
                            .sample = true,
                            .start = start});
  for (int i = 0; i < 4096 / kBlockTokens; ++i) step.sequences[0].block_table.push_back(i);
  executor->Run(step);
  const StepResult result = executor->Wait();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_LE(executor->Stats().devices[0].memory.activations_peak, warm_up + warm_up / 50);
}

// The warm-up computes a fraction, and takes all the memory.
TEST(WarmUpTest, AWarmUpHoldsWhatTheSameStepHoldsWhenItIsComputed) {
  for (const Json& config : {TinyLlama(), TinyQwen3Moe()}) {
    const TinyCheckpoint tiny(config);
    for (const char* quantize : {"", "int8"}) {
      SCOPED_TRACE(quantize);
      ModelSpec spec = tiny.spec();
      const absl::StatusOr<WeightFormat> format = ParseQuantize(quantize);
      ASSERT_TRUE(format.ok() && QuantizeOnLoad(*format, spec).ok());
      const Plan plan = PlanFor(spec, "simulated:1x64MiB", OneDevice());
      const auto executor = MakeExecutor(spec, tiny.checkpoint(), plan, {.cpu_threads = 2}, nullptr);
      ASSERT_TRUE(executor.ok()) << executor.status();
      const int64_t warm_up = (*executor)->Stats().devices[0].memory.activations_peak;
      EXPECT_GT(warm_up, 64 * spec.hidden_size * 4);
      (*executor)->Run(WorstStep(spec, plan));
      EXPECT_TRUE((*executor)->Wait().status.ok());
      EXPECT_EQ((*executor)->Stats().devices[0].memory.activations_peak, warm_up);
    }
  }
}

TEST(ExecutorFailureTest, AFileThatHasBecomeShorterIsDataLoss) {
  const TinyCheckpoint tiny(TinyLlama());
  std::filesystem::resize_file(tiny.folder() + "/model.safetensors", 50'000);
  const Plan plan = PlanFor(tiny.spec(), "simulated:2x64MiB");
  const absl::Status status = MakeExecutor(tiny.spec(), tiny.checkpoint(), plan, {}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
}

TEST(ExecutorFailureTest, WeightsOverTheBudgetAreAClearError) {
  const TinyCheckpoint tiny(TinyLlama());
  Plan plan = PlanFor(tiny.spec(), "simulated:2x64MiB");
  plan.devices[1].budget = plan.devices[1].weights / 2;
  const absl::Status status = MakeExecutor(tiny.spec(), tiny.checkpoint(), plan, {}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("device simulated:1: "));
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("bytes for weights do not fit: the budget is"));
}

TEST(ExecutorFailureTest, AWarmUpAboveThePlanIsRefused) {
  const TinyCheckpoint tiny(TinyLlama());
  Plan plan = PlanFor(tiny.spec(), "simulated:1x64MiB", OneDevice());
  plan.devices[0].activations = 30'000;
  const absl::Status status = MakeExecutor(tiny.spec(), tiny.checkpoint(), plan, {}, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(
      std::string(status.message()),
      ::testing::ContainsRegex("device simulated:0: a worst-case step .* took [0-9]+ bytes .* the plan allows 30000"));
}

TEST(ExecutorFailureTest, APlanWithoutKvCacheRunsNothing) {
  const TinyCheckpoint tiny(TinyLlama());
  PlanOptions options;
  options.kv_cache_tokens = 0;
  const absl::Status status =
      MakeExecutor(tiny.spec(), tiny.checkpoint(), PlanFor(tiny.spec(), "simulated:1x64MiB", options), {}, nullptr)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

// A step that fails does so in its place, and those around it are unharmed.
TEST(ExecutorFailureTest, AFailedStepEndsAlone) {
  const TinyCheckpoint tiny(TinyLlama());
  for (const char* devices : {"simulated:1x64MiB", "simulated:4x64MiB"}) {
    auto executor = Start(tiny, PlanFor(tiny.spec(), devices));
    StepPlan good, bad;
    good.step = 1;
    good.tokens = good.prefill_tokens = 2;
    auto start = std::make_shared<SequenceStart>();
    start->sampling.temperature = 0;
    good.sequences.push_back(
        {.sequence = 1, .slot = 0, .tokens = {3, 4}, .block_table = {0}, .sample = true, .start = start});
    bad = good;
    bad.step = 2;
    bad.sequences[0].slot = 1;
    bad.sequences[0].tokens = {3, 96};
    executor->Run(good);
    executor->Run(bad);
    const StepResult first = executor->Wait();
    executor->Run(good);
    const StepResult second = executor->Wait(), third = executor->Wait();
    EXPECT_TRUE(first.status.ok()) << first.status;
    EXPECT_EQ(second.step, 2u);
    EXPECT_EQ(second.status.message(), "step plan, sequence 1: token 96 of a vocabulary of 96");
    EXPECT_TRUE(second.tokens.empty());
    ASSERT_TRUE(third.status.ok()) << third.status;
    EXPECT_EQ(third.tokens.at(0).token, first.tokens.at(0).token);
  }
}

TEST(ExecutorFailureTest, AStepThatNeedsMoreThanTheBudgetFailsAndTheNextRuns) {
  const TinyCheckpoint tiny(TinyLlama({{"vocab_size", 20'000}, {"num_hidden_layers", 1}}));
  Plan plan = PlanFor(tiny.spec(), "simulated:1x64MiB", OneDevice());
  DevicePlan& device = plan.devices[0];
  device.budget = device.weights + device.kv_cache + device.activations + (64 << 10);
  auto executor = Start(tiny, plan, /*reference=*/true);
  StepPlan step;
  step.step = 1;
  step.tokens = step.prefill_tokens = 60;
  auto start = std::make_shared<SequenceStart>();
  start->sampling.temperature = 0;
  step.sequences.push_back({.sequence = 1,
                            .slot = 0,
                            .tokens = std::vector<int32_t>(60, 7),
                            .block_table = {0, 1, 2, 3},
                            .sample = true,
                            .start = start});
  StepPlan large = step;
  large.sequences[0].all_logits = true;  // 60 rows of logits, where the plan allows for those of four sequences
  executor->Run(large);
  const StepResult refused = executor->Wait();
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted) << refused.status;
  EXPECT_THAT(std::string(refused.status.message()), ::testing::HasSubstr("bytes for activations do not fit"));
  executor->Run(step);
  const StepResult result = executor->Wait();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(executor->Stats().devices[0].memory.activations, 0);
}

// A grammar that allows no token from the first on.
class EndedGrammar : public TokenConstraint {
 public:
  explicit EndedGrammar(TokenMask mask) : mask_(std::move(mask)) {}
  bool Soon(int64_t) const override { return true; }
  TokenMask Await(int64_t) override { return mask_; }
  void Chosen(int64_t, int32_t) override {}

 private:
  const TokenMask mask_;
};

// The plan has room for one copy of the logits, whichever of the rows are sampled from.
TEST(ExecutorTightTest, SequencesWhoseGrammarEndsLeaveTheOthersTheirStep) {
  const TinyCheckpoint tiny(TinyLlama(
      {{"vocab_size", 200'000}, {"hidden_size", 16}, {"num_hidden_layers", 1}, {"tie_word_embeddings", true}}));
  Plan plan = PlanFor(tiny.spec(), "simulated:1x64MiB", OneDevice());
  DevicePlan& device = plan.devices[0];
  device.budget = device.weights + device.kv_cache + device.activations;
  auto executor = Start(tiny, plan, /*reference=*/true);
  const auto tokens = [&](const std::vector<std::shared_ptr<TokenConstraint>>& grammars) {
    StepPlan step;
    for (int i = 0; i < 4; ++i) {
      auto start = std::make_shared<SequenceStart>();
      start->sampling.temperature = 0;
      step.sequences.push_back({.sequence = static_cast<uint64_t>(i),
                                .slot = i,
                                .tokens = {7 + i},
                                .block_table = {i},
                                .sample = true,
                                .start = start,
                                .local = {.constraint = grammars[i]}});
    }
    step.tokens = step.prefill_tokens = 4;
    executor->Run(step);
    StepResult result = executor->Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens.size(), 4u);
    result.tokens.resize(4);
    return result.tokens;
  };
  const auto complete = std::make_shared<EndedGrammar>(TokenMask{.state = TokenMask::State::kComplete});
  const auto failed = std::make_shared<EndedGrammar>(
      TokenMask{.state = TokenMask::State::kFailed, .status = absl::InternalError("no such rule")});
  using Outcome = SampledToken::Outcome;
  const std::vector<SampledToken> plain = tokens({nullptr, nullptr, nullptr, nullptr});
  for (const auto& grammars :
       std::vector<std::vector<std::shared_ptr<TokenConstraint>>>{{nullptr, complete, nullptr, nullptr},
                                                                  {failed, nullptr, nullptr, complete},
                                                                  {complete, complete, complete, failed}}) {
    const std::vector<SampledToken> mixed = tokens(grammars);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(mixed[i].sequence, i);
      EXPECT_EQ(mixed[i].outcome, grammars[i] == failed     ? Outcome::kFailed
                                  : grammars[i] == complete ? Outcome::kComplete
                                                            : Outcome::kToken)
          << i;
      EXPECT_EQ(mixed[i].status.message(), grammars[i] == failed ? "no such rule" : "") << i;
      EXPECT_EQ(mixed[i].token, grammars[i] == nullptr ? plain[i].token : 0) << i;
    }
  }
}

TEST(ExecutorFailureTest, ClosingFinishesWhatIsInFlight) {
  const TinyCheckpoint tiny(TinyLlama());
  auto executor = Start(tiny, PlanFor(tiny.spec(), "simulated:4x64MiB"));
  auto start = std::make_shared<SequenceStart>();
  StepPlan step;
  step.sequences.push_back(
      {.sequence = 1, .slot = 0, .tokens = {3, 4}, .block_table = {0}, .sample = true, .start = start});
  for (int i = 0; i < executor->steps_in_flight(); ++i) executor->Run(step);
  executor.reset();
}

TEST(ExecutorProgressTest, LoadingReportsEveryByte) {
  const TinyCheckpoint tiny(TinyGpt2());
  LoadProgress last;
  const auto executor = MakeExecutor(tiny.spec(), tiny.checkpoint(), PlanFor(tiny.spec(), "simulated:2x64MiB"), {},
                                     [&last](const LoadProgress& progress) { last = progress; });
  ASSERT_TRUE(executor.ok()) << executor.status();
  EXPECT_EQ(last.bytes_done, last.bytes_total);
  EXPECT_GT(last.bytes_total, static_cast<int64_t>(tiny.spec().vocab_size * tiny.spec().hidden_size * 4));
}

}  // namespace
}  // namespace causeway
