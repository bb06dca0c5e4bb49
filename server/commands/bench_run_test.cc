#include "server/commands/bench_run.h"

#include <deque>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "engine/base/limits.h"

namespace causeway {
namespace {

// Checks that every step is one that a scheduler could have made.
class CheckingExecutor : public Executor {
 public:
  CheckingExecutor(int in_flight_max, int64_t budget, int micro_batches = 1)
      : in_flight_max_(in_flight_max), budget_(budget), micro_batches_(micro_batches) {}

  void Run(StepPlan plan) override {
    EXPECT_LT(static_cast<int>(in_flight_.size()), in_flight_max_);
    EXPECT_LE(plan.tokens, budget_);
    int64_t rows = 0;
    std::set<uint64_t> seen;
    for (const StepSequence& s : plan.sequences) {
      EXPECT_TRUE(seen.insert(s.sequence).second);
      rows += static_cast<int64_t>(s.tokens.size());
      int64_t& context = context_[s.sequence];
      EXPECT_EQ(s.context, context);
      EXPECT_EQ(s.start != nullptr, context == 0);
      context += static_cast<int64_t>(s.tokens.size());
      EXPECT_EQ(static_cast<int64_t>(s.block_table.size()), BlocksFor(context));
      for (int32_t block : s.block_table) {
        auto [owner, fresh] = owner_.emplace(block, s.sequence);
        EXPECT_TRUE(fresh || owner->second == s.sequence) << "block " << block << " is shared";
        blocks_max = std::max<int64_t>(blocks_max, block + 1);
      }
      if (s.tokens.back() == kPlaceholderToken) {
        EXPECT_EQ(s.generated, ++sampled_[s.sequence]);
        ++decoded;
      }
    }
    EXPECT_EQ(rows, plan.tokens);
    prefill_steps += plan.prefill_tokens > 0;
    groups_max = std::max(groups_max, static_cast<int64_t>(in_flight_.size()) + 1);
    in_flight_.push_back(plan.step);
  }
  StepResult Wait() override {
    StepResult result;
    result.step = in_flight_.front();
    in_flight_.pop_front();
    // In turn, steps choose 2 and 4 of the layer's 8 experts; the prefill chooses all of them.
    ExpertLoad& load = stats_.experts[1];
    load.tokens.resize(8);
    load.expert_bytes = 100;
    load.busy += result.step == 1 ? 8 : result.step % 2 == 0 ? 2 : 4;
    ++load.steps;
    if (result.step == fail_at) result.status = absl::InternalError("broken");
    return result;
  }
  int steps_in_flight() const override { return in_flight_max_; }
  int micro_batches() const override { return micro_batches_; }
  ExecutorStats Stats() const override { return stats_; }

  int64_t blocks_max = 0, decoded = 0, groups_max = 0;
  int prefill_steps = 0;
  uint64_t fail_at = 0;

 private:
  const int in_flight_max_;
  const int64_t budget_;
  const int micro_batches_;
  ExecutorStats stats_;
  std::deque<uint64_t> in_flight_;
  std::map<uint64_t, int64_t> context_, sampled_;
  std::map<int32_t, uint64_t> owner_;
};

Plan PlanOf(int64_t budget) {
  Plan plan;
  plan.options.max_num_batched_tokens = budget;
  return plan;
}

TEST(BenchRun, OneStage) {
  const BenchCase bench = {.batch = 3, .prompt_tokens = 50, .generated_tokens = 7};
  CheckingExecutor executor(2, 64);
  auto times = RunBenchCase(executor, PlanOf(64), 100, bench);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(executor.prefill_steps, 3);  // 150 tokens, at most 64 in a step
  EXPECT_EQ(executor.decoded, 21);
  EXPECT_EQ(executor.groups_max, 2);
  EXPECT_EQ(executor.blocks_max, BenchBlocks(bench));
  EXPECT_GT(times->decode_seconds, 0);
}

TEST(BenchRun, SeveralStagesWorkOnDisjointSequences) {
  CheckingExecutor executor(5, 2048, 4);
  ASSERT_TRUE(RunBenchCase(executor, PlanOf(2048), 100, {.batch = 6, .prompt_tokens = 20, .generated_tokens = 5}).ok());
  EXPECT_EQ(executor.prefill_steps, 1);
  EXPECT_EQ(executor.decoded, 30);
  EXPECT_EQ(executor.groups_max, 5);
}

TEST(BenchRun, PromptsFollowEachOtherThroughTheStages) {
  CheckingExecutor executor(3, 2048, 2);
  ASSERT_TRUE(
      RunBenchCase(executor, PlanOf(2048), 100, {.batch = 4, .prompt_tokens = 250, .generated_tokens = 2}).ok());
  EXPECT_EQ(executor.prefill_steps, 4);  // of 250 rows, in place of one of 1,000
  CheckingExecutor one_stage(2, 2048);
  ASSERT_TRUE(
      RunBenchCase(one_stage, PlanOf(2048), 100, {.batch = 4, .prompt_tokens = 250, .generated_tokens = 2}).ok());
  EXPECT_EQ(one_stage.prefill_steps, 1);
}

TEST(BenchRun, AStepReadsTheEmbeddingsTableForATiedHeadOnly) {
  ModelSpec spec;
  spec.vocab_size = 100;
  spec.hidden_size = 8;
  Plan plan;
  plan.options.dtype = DType::kBF16;
  plan.devices.resize(2);
  plan.devices[0].weights = 5000;
  plan.devices[1].weights = 4000;
  EXPECT_EQ(BenchStepBytes(spec, plan), 9000 - 100 * 8 * 2);
  spec.tied_head = true;
  EXPECT_EQ(BenchStepBytes(spec, plan), 9000);
  plan.tied_head_copied = true;
  EXPECT_EQ(BenchStepBytes(spec, plan), 9000 - 100 * 8 * 2);
}

TEST(BenchRun, ExpertsThatDecodingLeavesIdleAreNotRead) {
  CheckingExecutor executor(2, 64);
  const auto times = RunBenchCase(executor, PlanOf(64), 100, {.batch = 1, .prompt_tokens = 20, .generated_tokens = 4});
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(times->idle_expert_bytes, (8 - 3) * 100);
}

TEST(BenchRun, AFailedStepIsAnError) {
  CheckingExecutor executor(2, 64);
  executor.fail_at = 3;
  EXPECT_EQ(RunBenchCase(executor, PlanOf(64), 100, {.batch = 1, .prompt_tokens = 20, .generated_tokens = 5})
                .status()
                .message(),
            "broken");
}

}  // namespace
}  // namespace causeway
