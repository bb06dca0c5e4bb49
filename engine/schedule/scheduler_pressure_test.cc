// What the scheduler does when blocks run out and when steps fail.
#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/limits.h"
#include "engine/schedule/fake_device.h"
#include "engine/schedule/scheduler.h"

namespace causeway {
namespace {

using ::testing::IsEmpty;

SchedulerOptions Options(int64_t num_blocks) {
  SchedulerOptions options;
  options.num_blocks = num_blocks;
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 400;
  return options;
}

SequenceRequest Request(uint64_t id, int64_t prompt, int64_t max_tokens) {
  SequenceRequest request;
  request.id = id;
  for (int64_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<int32_t>(id * 1000 + i));
  request.stop.max_tokens = max_tokens;
  return request;
}

// Runs everything to the end with full pipelines. Keeps each sequence's tokens and reason, and the order of the ends.
struct Outcome {
  std::map<uint64_t, std::vector<int32_t>> tokens;
  std::map<uint64_t, FinishReason> reasons;
  std::vector<uint64_t> ends;
  int64_t steps = 0, rows = 0;
};
Outcome RunAll(Scheduler& scheduler, FakeDevice& device, int64_t fail_step = -1) {
  Outcome outcome;
  std::deque<StepResult> in_flight;
  while (!scheduler.idle() || !in_flight.empty()) {
    while (std::optional<StepPlan> plan = scheduler.Next()) {
      outcome.rows += plan->tokens;
      in_flight.push_back(device.Run(*plan, ++outcome.steps == fail_step));
    }
    if (in_flight.empty() || testing::Test::HasFailure()) {
      ADD_FAILURE() << "nothing is in flight and nothing can be planned";
      return outcome;
    }
    for (const SequenceEvent& event : scheduler.Apply(in_flight.front())) {
      if (event.token.has_value()) outcome.tokens[event.sequence].push_back(event.token->token);
      if (event.finished.has_value()) {
        outcome.reasons[event.sequence] = *event.finished;
        outcome.ends.push_back(event.sequence);
      }
    }
    in_flight.pop_front();
  }
  return outcome;
}

TEST(Preemption, OversubscribedThreeTimesTokensAreTheSame) {
  for (int stages : {1, 2, 4}) {
    // At their ends, twelve sequences of 96 tokens have 72 blocks; there are 24.
    SchedulerOptions options = Options(24);
    options.micro_batches = stages;
    options.steps_in_flight = stages == 1 ? 2 : stages + 1;
    FakeClock clock;
    Scheduler scheduler(options, &clock);
    FakeDevice device(options);
    std::vector<SequenceRequest> requests;
    for (uint64_t id = 1; id <= 12; ++id) requests.push_back(Request(id, 16, 80));
    for (const SequenceRequest& request : requests) {
      device.Add(request);
      ASSERT_TRUE(scheduler.Add(request).ok());
    }
    const Outcome outcome = RunAll(scheduler, device);
    for (const SequenceRequest& request : requests) {
      EXPECT_EQ(outcome.tokens.at(request.id), TruthOf(request, options).generated) << request.id;
    }
    EXPECT_GT(scheduler.Stats().preemptions, 0);
    EXPECT_EQ(scheduler.Stats().blocks_used, 0);
    // There is no thrashing: recomputation stays a fraction of the work.
    EXPECT_LT(outcome.rows, 2 * 12 * 95) << "stages " << stages;
  }
}

TEST(Preemption, TheHighestRankedRunsAsIfAlone) {
  SchedulerOptions options = Options(8);
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  for (uint64_t id = 1; id <= 8; ++id) {
    SequenceRequest request = Request(id, 14, 100);  // 114 tokens: each needs nearly the whole pool at its end
    request.priority = id == 5 ? 1 : 0;
    device.Add(request);
    ASSERT_TRUE(scheduler.Add(request).ok());
  }
  const Outcome outcome = RunAll(scheduler, device);
  EXPECT_EQ(outcome.ends.front(), 5u);
  EXPECT_EQ(outcome.ends[1], 1u) << "then by arrival";
  EXPECT_TRUE(std::is_sorted(outcome.ends.begin() + 1, outcome.ends.end()));
  EXPECT_GT(scheduler.Stats().preemptions, 0);
}

TEST(Preemption, ALargePromptIsNotStarvedBySmallOnes) {
  SchedulerOptions options = Options(16);
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  const auto add = [&](const SequenceRequest& request) {
    device.Add(request);
    ASSERT_TRUE(scheduler.Add(request).ok());
  };
  add(Request(1, 20, 30));
  add(Request(2, 220, 10));  // 14 of the 16 blocks
  uint64_t next = 3;
  std::deque<StepResult> in_flight;
  // Small ones keep coming: two wait at any time.
  for (int step = 0; step < 400; ++step) {
    while (scheduler.Stats().waiting < 3) add(Request(next++, 20, 30));
    while (std::optional<StepPlan> plan = scheduler.Next()) in_flight.push_back(device.Run(*plan));
    for (const SequenceEvent& event : scheduler.Apply(in_flight.front())) {
      if (event.sequence == 2 && event.finished.has_value()) return;
    }
    in_flight.pop_front();
  }
  FAIL() << "the large prompt did not end in 400 steps, " << next << " small ones were added";
}

TEST(Preemption, RowsOfOnePreemptedWhilePlanningGoToOthers) {
  SchedulerOptions options = Options(7);
  options.max_num_seqs = 2;
  options.max_num_batched_tokens = 16;
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  SequenceRequest low = Request(1, 15, 100), high = Request(2, 96, 5);  // together eight blocks once `low` has grown
  high.priority = 1;
  std::vector<int64_t> rows;  // rows of `high`
  for (const SequenceRequest& request : {low, high}) {
    device.Add(request);
    ASSERT_TRUE(scheduler.Add(request).ok());
    if (request.id == 1) scheduler.Apply(device.Run(*scheduler.Next()));
  }
  while (scheduler.Stats().preemptions == 0) {
    const std::optional<StepPlan> plan = scheduler.Next();
    ASSERT_TRUE(plan.has_value());
    rows.push_back(static_cast<int64_t>(plan->sequences.back().tokens.size()));
    scheduler.Apply(device.Run(*plan));
  }
  EXPECT_EQ(rows, (std::vector<int64_t>{15, 15, 15, 15, 15, 5, 16})) << "the last step has all of its budget";
}

TEST(Preemption, ASequenceMayFillTheWholePool) {
  SchedulerOptions options = Options(3);
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  const SequenceRequest request = Request(1, 1, 0);
  device.Add(request);
  ASSERT_TRUE(scheduler.Add(request).ok());
  const Outcome outcome = RunAll(scheduler, device);
  EXPECT_EQ(outcome.tokens.at(1).size(), 48u) << "48 rows make as many tokens; the last needs no row";
  EXPECT_EQ(outcome.reasons.at(1), FinishReason::kLength);
}

// A failed step ends its own sequences and the one that found its blocks by prefix, and nobody else. What it was to
// write is no longer found.
TEST(FailedStep, EndsThoseWhoDependOnItAndForgetsWhatItWrote) {
  SchedulerOptions options = Options(100);
  options.micro_batches = 3, options.steps_in_flight = 4;
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  const auto add = [&](const SequenceRequest& request) {
    device.Add(request);
    ASSERT_TRUE(scheduler.Add(request).ok());
  };
  add(Request(1, 40, 20));
  std::vector<StepResult> results = {device.Run(*scheduler.Next(), /*fail=*/true)};
  SequenceRequest same = Request(1, 40, 20);
  same.id = 2;
  add(same);
  add(Request(3, 10, 20));
  const std::optional<StepPlan> second = scheduler.Next();
  ASSERT_EQ(second->sequences.size(), 2u);
  EXPECT_EQ(second->sequences[0].context, 32) << "sequence 2 shares what the failing step writes";
  results.push_back(device.Run(*second));

  std::vector<SequenceEvent> events = scheduler.Apply(results[0]);
  ASSERT_EQ(events.size(), 2u);
  for (int i : {0, 1}) {
    EXPECT_EQ(events[i].sequence, static_cast<uint64_t>(i + 1));
    EXPECT_EQ(events[i].finished, FinishReason::kError);
    EXPECT_EQ(events[i].status.message(), "step 1 was made to fail");
  }
  events = scheduler.Apply(results[1]);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].sequence, 3u);
  EXPECT_FALSE(events[0].finished.has_value());

  same.id = 4;
  add(same);
  const std::optional<StepPlan> third = scheduler.Next();
  EXPECT_EQ(third->sequences.back().sequence, 4u);
  EXPECT_EQ(third->sequences.back().context, 0) << "nothing of the failed prefix is found";
}

TEST(FailedStep, LeavesThoseAloneWhoWereGivenItsBlocksSince) {
  SchedulerOptions options = Options(3);
  FakeClock clock;
  Scheduler scheduler(options, &clock);
  FakeDevice device(options);
  const SequenceRequest first = Request(1, 40, 20), second = Request(2, 40, 5);
  device.Add(first);
  device.Add(second);
  ASSERT_TRUE(scheduler.Add(first).ok());
  const StepResult failed = device.Run(*scheduler.Next(), /*fail=*/true);
  ASSERT_TRUE(scheduler.Finish(1, FinishReason::kCancelled).has_value());
  ASSERT_TRUE(scheduler.Add(second).ok());
  const StepResult result = device.Run(*scheduler.Next());
  EXPECT_THAT(scheduler.Apply(failed), IsEmpty());
  EXPECT_EQ(scheduler.Apply(result).size(), 1u);
  EXPECT_EQ(RunAll(scheduler, device).tokens.at(2).size(), 4u);
}

TEST(FailedStep, OfAPreemptedSequenceLosesItsToken) {
  // Each run fails another step of a workload with preemptions. Sequences that don't fail come to the right end.
  SchedulerOptions options = Options(6);
  for (int64_t fail = 1; fail < 60; ++fail) {
    FakeClock clock;
    Scheduler scheduler(options, &clock);
    FakeDevice device(options);
    std::vector<SequenceRequest> requests;
    for (uint64_t id = 1; id <= 4; ++id) {
      requests.push_back(Request(id, 20, 30));
      device.Add(requests.back());
      ASSERT_TRUE(scheduler.Add(requests.back()).ok());
    }
    const Outcome outcome = RunAll(scheduler, device, fail);
    ASSERT_EQ(outcome.reasons.size(), 4u);
    int64_t errors = 0;
    for (const SequenceRequest& request : requests) {
      if (outcome.reasons.at(request.id) == FinishReason::kError) {
        ++errors;
      } else {
        EXPECT_EQ(outcome.tokens.at(request.id), TruthOf(request, options).generated);
      }
    }
    EXPECT_EQ(errors > 0, fail <= outcome.steps) << "step " << fail;
    EXPECT_EQ(scheduler.Stats().blocks_used, 0);
  }
}

}  // namespace
}  // namespace causeway
