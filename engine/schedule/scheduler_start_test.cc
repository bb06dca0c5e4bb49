// What a scheduler says about sequences that it does not have yet.
#include <algorithm>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/base/limits.h"
#include "engine/schedule/fake_device.h"
#include "engine/schedule/scheduler.h"

namespace causeway {
namespace {

class CanStartTest : public ::testing::Test {
 protected:
  static SchedulerOptions Options() {
    SchedulerOptions options;
    options.num_blocks = 10;
    options.max_num_seqs = 2;
    options.max_num_batched_tokens = 200;
    options.max_model_len = 160;
    return options;
  }
  static SequenceRequest Request(uint64_t id, int64_t prompt, int32_t first_token = 0) {
    SequenceRequest request;
    request.id = id;
    request.prompt.resize(prompt);
    std::iota(request.prompt.begin(), request.prompt.end(), first_token);
    request.stop.max_tokens = 4;
    return request;
  }
  bool CanStart(const SequenceRequest& request) {
    return scheduler_.CanStart({.id = request.id,
                                .priority = request.priority,
                                .prompt = request.prompt,
                                .cache_salt = request.cache_salt,
                                .computes_all = request.sampling.prompt_logprobs});
  }
  void Add(const SequenceRequest& request) {
    device_.Add(request);
    EXPECT_TRUE(scheduler_.Add(request).ok());
  }
  // Plans a step, runs it and applies its result.
  StepPlan Step() {
    const std::optional<StepPlan> plan = scheduler_.Next();
    EXPECT_TRUE(plan.has_value());
    scheduler_.Apply(device_.Run(*plan, /*fail=*/false));
    return *plan;
  }

  FakeClock clock_;
  Scheduler scheduler_{Options(), &clock_};
  FakeDevice device_{Options()};
};

TEST_F(CanStartTest, AnIdleSchedulerStartsAnything) { EXPECT_TRUE(CanStart(Request(1, 159))); }

TEST_F(CanStartTest, SlotsAreCounted) {
  Add(Request(1, 4));
  EXPECT_TRUE(CanStart(Request(3, 4, 5000)));
  Add(Request(2, 4, 1000));
  EXPECT_FALSE(CanStart(Request(3, 4, 5000))) << "two wait for the two slots";
  Step();
  EXPECT_FALSE(CanStart(Request(3, 4, 5000))) << "two run in the two slots";
  scheduler_.Finish(1, FinishReason::kStop);
  EXPECT_TRUE(CanStart(Request(3, 4, 5000)));
}

TEST_F(CanStartTest, BlocksAreCounted) {
  Add(Request(1, 100));  // 7 blocks
  Step();
  EXPECT_FALSE(CanStart(Request(2, 49, 5000)));  // 4 blocks, where 3 are left
  EXPECT_TRUE(CanStart(Request(3, 48, 6000)));
}

TEST_F(CanStartTest, APrefixThatIsThereNeedsNoBlocks) {
  Add(Request(1, 100));
  Step();
  EXPECT_FALSE(CanStart(Request(2, 100, 5000)));
  EXPECT_TRUE(CanStart(Request(3, 100)));
  SequenceRequest salted = Request(4, 100);
  salted.cache_salt = "another";
  EXPECT_FALSE(CanStart(salted));
  SequenceRequest scored = Request(5, 100);
  scored.sampling.prompt_logprobs = true;
  EXPECT_FALSE(CanStart(scored)) << "its prompt is computed all the same";
}

TEST_F(CanStartTest, ThoseThatWaitAndRankBeforeAreCounted) {
  Add(Request(1, 80));  // 5 blocks
  Step();
  Add(Request(2, 60, 5000));  // 4 blocks, not admitted yet
  SequenceRequest other = Request(3, 20, 7000);
  EXPECT_FALSE(CanStart(other));
  other.id = 4;
  other.priority = 1;
  EXPECT_TRUE(CanStart(other)) << "it would be admitted before the one that waits";
}

TEST_F(CanStartTest, WhatCanStartIsInTheNextStepThatHasRoomForIt) {
  std::mt19937 random(7);
  SchedulerOptions options = Options();
  options.num_blocks = 40;
  options.max_num_seqs = 6;
  options.max_num_batched_tokens = 64;
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  int started = 0, refused = 0;
  for (uint64_t id = 1; id <= 2000; ++id) {
    SequenceRequest request =
        Request(id, 1 + static_cast<int64_t>(random() % 150), static_cast<int32_t>(random() % 3 * 1000));
    request.stop.max_tokens = 1 + static_cast<int64_t>(random() % 60);
    const int64_t preemptions = scheduler.Stats().preemptions;
    const bool can = scheduler.CanStart({.id = id, .prompt = request.prompt});
    if (can) {
      device.Add(request);
      ASSERT_TRUE(scheduler.Add(request).ok());
    }
    (can ? started : refused) += 1;
    const std::optional<StepPlan> plan = scheduler.Next();
    if (!plan.has_value()) continue;
    const bool in_step = std::any_of(plan->sequences.begin(), plan->sequences.end(),
                                     [id](const StepSequence& s) { return s.sequence == id; });
    const bool full = plan->tokens == options.max_num_batched_tokens || scheduler.Stats().preemptions > preemptions;
    EXPECT_TRUE(in_step || !can || full) << id;
    scheduler.Apply(device.Run(*plan, /*fail=*/false));
  }
  EXPECT_GT(started, 200);
  EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace causeway
