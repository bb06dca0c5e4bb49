// The rules of the scheduler one by one, in steps small enough to follow by hand.
#include "engine/schedule/scheduler.h"

#include <deque>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/limits.h"
#include "engine/schedule/testing.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SchedulerOptions, RefusalsNameOptionValueAndRange) {
  EXPECT_TRUE(Validate(Options()).ok());
  SchedulerOptions options = Options();
  options.num_blocks = 0;
  EXPECT_EQ(Validate(options).message(), "num_blocks is 0, expected a number in [1, 2147483647]");
  options = Options();
  options.max_num_batched_tokens = 7;
  EXPECT_EQ(Validate(options).message(), "max_num_batched_tokens is 7, expected a number in [8, 2147483647]");
  options = Options();
  options.max_model_len = 1;
  EXPECT_EQ(Validate(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_DEATH(Scheduler(options, Clock::Real()), "max_model_len is 1, expected a number in \\[2, ");
}

TEST(Add, RefusesWhatCanNeverRun) {
  Rig rig(Options());
  EXPECT_THAT(std::string(rig.scheduler.Add(Request(1, 0)).message()),
              HasSubstr("the prompt has 0 tokens, expected at least 1"));
  EXPECT_THAT(std::string(rig.scheduler.Add(Request(1, 200)).message()),
              HasSubstr("the prompt has 200 tokens, expected at most 199"));
  EXPECT_EQ(rig.scheduler.Add(Request(1, 200)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.scheduler.Add(Request(0, 5)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(rig.scheduler.Add(Request(1, 199)).ok());
  EXPECT_EQ(rig.scheduler.Add(Request(1, 5)).code(), absl::StatusCode::kAlreadyExists);

  SchedulerOptions small = Options();
  small.num_blocks = 3;
  Rig tiny(small);
  EXPECT_THAT(std::string(tiny.scheduler.Add(Request(1, 49)).message()),
              HasSubstr("expected at most 48: the KV cache has 3 blocks"));
  tiny.Add(Request(2, 48));
  EXPECT_EQ(tiny.Drain().back().finished, FinishReason::kLength);
}

TEST(Budget, LongPromptsGoInChunksAndDecodesGoFirst) {
  Rig rig(Options());
  rig.Add(Request(1, 5, 100));
  EXPECT_EQ(rig.Step(), "1:5");
  rig.Add(Request(2, 70, 100));
  EXPECT_EQ(rig.Step(), "1:1 2:31");
  EXPECT_EQ(rig.last.sequences[0].tokens[0], kPlaceholderToken);
  EXPECT_FALSE(rig.last.sequences[1].sample);
  EXPECT_EQ(rig.last.tokens, 32);
  EXPECT_EQ(rig.last.prefill_tokens, 31);
  EXPECT_EQ(rig.Step(), "none") << "two steps are in flight";
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:1 2:31");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:1 2:8");
  EXPECT_TRUE(rig.last.sequences[1].sample);
  EXPECT_EQ(rig.last.sequences[1].generated, 0);
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:1 2:1");
  EXPECT_EQ(rig.last.prefill_tokens, 0);
}

TEST(Budget, ALongPromptLeavesHalfToThoseBehindIt) {
  SchedulerOptions options = Options();
  options.max_num_batched_tokens = 512;
  options.max_model_len = 5000;
  options.num_blocks = 1000;
  Rig rig(options);
  rig.Add(Request(1, 2000));
  EXPECT_EQ(rig.Step(), "1:512") << "alone it has all";
  rig.Add(Request(2, 100));
  rig.Add(Request(3, 50));
  // Half of the budget goes to the first. The others fit whole; what they leave goes back to the first.
  EXPECT_EQ(rig.Step(), "1:362 2:100 3:50");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "2:1 3:1 1:510");
}

TEST(Async, PlansOverTokensInFlightButNeverPastTheEnd) {
  Rig rig(Options());
  rig.Add(Request(1, 5, 2));
  EXPECT_EQ(rig.Step(), "1:5");
  EXPECT_EQ(rig.Step(), "1:1");
  EXPECT_EQ(rig.last.sequences[0].generated, 1);
  const auto first = rig.Apply();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_FALSE(first[0].finished.has_value());
  EXPECT_EQ(rig.Step(), "none") << "its last token is in flight";
  const auto last = rig.Apply();
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].finished, FinishReason::kLength);
  EXPECT_EQ(rig.scheduler.Stats().blocks_used, 0);
}

TEST(Async, ThePromptAloneWhenOneTokenIsAskedFor) {
  Rig rig(Options());
  rig.Add(Request(1, 5, 1));
  EXPECT_EQ(rig.Step(), "1:5");
  EXPECT_EQ(rig.Step(), "none");
  EXPECT_EQ(rig.Apply()[0].finished, FinishReason::kLength);
}

TEST(Async, RowsOfASequenceThatTurnsOutFinishedAreDiscarded) {
  Rig rig(Options());
  SequenceRequest request = Request(1, 5, 100);
  const FakeTruth truth = TruthOf(request, rig.options);
  request.stop.token_ids = {truth.generated[0]};
  rig.Add(request);
  EXPECT_EQ(rig.Step(), "1:5");
  EXPECT_EQ(rig.Step(), "1:1");
  const auto events = rig.Apply();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].finished, FinishReason::kStop);
  EXPECT_EQ(events[0].stop_token, truth.generated[0]);
  EXPECT_EQ(events[0].token->token, truth.generated[0]);
  EXPECT_TRUE(rig.scheduler.idle());
  EXPECT_EQ(rig.scheduler.Stats().blocks_used, 0);
  EXPECT_THAT(rig.Apply(), IsEmpty());
}

TEST(Async, TheContextEndsASequence) {
  SchedulerOptions options = Options();
  options.max_model_len = 10;
  Rig rig(options);
  rig.Add(Request(1, 7, 0));
  const auto events = rig.Drain();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events.back().finished, FinishReason::kLength);
}

TEST(Stop, IdsDoNotEndBeforeMinTokens) {
  Rig rig(Options());
  SequenceRequest request = Request(1, 5, 20);
  for (int32_t token = 0; token < kFakeVocab; token += 2) request.stop.token_ids.push_back(token);
  request.stop.min_tokens = 6;
  rig.Add(request);
  const auto events = rig.Drain();
  EXPECT_GE(events.size(), 7u);
  for (size_t i = 0; i + 1 < events.size(); ++i) EXPECT_EQ(events[i].token->token % 2, 1);
  EXPECT_EQ(events.back().finished, FinishReason::kStop);
}

TEST(Finish, FreesBlocksAtOnceAndEndsOnce) {
  Rig rig(Options());
  rig.Add(Request(1, 20, 50));
  rig.Add(Request(2, 10, 50));
  EXPECT_EQ(rig.Step(), "1:20 2:10");
  EXPECT_EQ(rig.scheduler.Stats().blocks_used, 3);
  const std::optional<SequenceEvent> event = rig.scheduler.Finish(1, FinishReason::kCancelled);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->finished, FinishReason::kCancelled);
  EXPECT_EQ(rig.scheduler.Stats().blocks_used, 1);
  EXPECT_FALSE(rig.scheduler.Finish(1, FinishReason::kCancelled).has_value());
  EXPECT_EQ(rig.Apply().size(), 1u) << "only sequence 2 has a token";
  EXPECT_FALSE(rig.scheduler.Finish(77, FinishReason::kCancelled).has_value());
}

TEST(Deadlines, EndRunningAndWaitingSequencesAndNeverStartLateOnes) {
  SchedulerOptions options = Options();
  options.max_num_seqs = 1;
  Rig rig(options);
  EXPECT_EQ(rig.scheduler.NextDeadline(), absl::InfiniteFuture());
  SequenceRequest running = Request(1, 5, 100), waiting = Request(2, 5);
  running.deadline = rig.clock.Now() + absl::Seconds(10);
  waiting.deadline = rig.clock.Now() + absl::Seconds(5);
  rig.Add(running);
  rig.Add(waiting);
  rig.Add(Request(3, 6));
  EXPECT_EQ(rig.scheduler.NextDeadline(), waiting.deadline);
  EXPECT_EQ(rig.Step(), "1:5");
  EXPECT_THAT(rig.scheduler.Expire(), IsEmpty());
  rig.clock.Advance(absl::Seconds(5));
  auto events = rig.scheduler.Expire();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].sequence, 2u);
  EXPECT_EQ(events[0].finished, FinishReason::kDeadline);
  SequenceRequest late = Request(4, 5);
  late.priority = 9;
  late.deadline = rig.clock.Now();
  rig.Add(late);
  rig.Apply();
  rig.scheduler.Finish(1, FinishReason::kCancelled);
  EXPECT_EQ(rig.Step(), "3:6") << "the late one is passed over though it ranks higher";
  events = rig.scheduler.Expire();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].sequence, 4u);
  EXPECT_EQ(rig.scheduler.NextDeadline(), absl::InfiniteFuture());
}

TEST(Priorities, HigherFirstThenArrival) {
  SchedulerOptions options = Options();
  options.max_num_seqs = 2;
  Rig rig(options);
  for (uint64_t id = 1; id <= 5; ++id) {
    SequenceRequest request = Request(id, 5, 1);
    request.priority = id == 4 ? 3 : id == 1 ? -1 : 0;
    rig.Add(request);
  }
  EXPECT_EQ(rig.Step(), "4:5 2:5");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "3:5 5:5");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:5");
}

TEST(Slots, AreReusedAndStartIsSentToTheNewSequence) {
  SchedulerOptions options = Options();
  options.max_num_seqs = 1;
  Rig rig(options);
  rig.Add(Request(1, 5, 50));
  rig.Add(Request(2, 5, 50));
  EXPECT_EQ(rig.Step(), "1:5");
  ASSERT_NE(rig.last.sequences[0].start, nullptr);
  EXPECT_EQ(rig.last.sequences[0].start->prompt_tokens, 5);
  EXPECT_EQ(rig.Step(), "1:1");
  EXPECT_EQ(rig.last.sequences[0].start, nullptr);
  rig.scheduler.Finish(1, FinishReason::kCancelled);
  rig.Apply();
  EXPECT_EQ(rig.Step(), "2:5") << "at once, though a step of the slot's former owner is in flight";
  EXPECT_EQ(rig.last.sequences[0].slot, 0);
  EXPECT_NE(rig.last.sequences[0].start, nullptr);
}

TEST(PrefixCache, TheLastPromptTokenIsAlwaysComputed) {
  Rig rig(Options());
  rig.Add(Request(1, 32, 1));
  rig.Drain();
  SequenceRequest again = Request(1, 32, 1);
  again.id = 2;
  rig.Add(again);
  EXPECT_EQ(rig.Step(), "2:16");
  const auto events = rig.Apply();
  EXPECT_EQ(events[0].cached_tokens, 16);
  SequenceRequest longer = Request(1, 33, 1);
  longer.id = 3;
  rig.Add(longer);
  EXPECT_EQ(rig.Step(), "3:1");
  EXPECT_EQ(rig.last.prefill_tokens, 1) << "a row of the prompt, though single";
  EXPECT_EQ(rig.Apply()[0].cached_tokens, 32);
  EXPECT_EQ(rig.scheduler.Stats().prefix_query_tokens, 32 + 32 + 33);
  EXPECT_EQ(rig.scheduler.Stats().prefix_hit_tokens, 16 + 32);
}

TEST(PrefixCache, AnotherSaltOrNoCacheGetsNoHit) {
  for (const bool cache : {true, false}) {
    SchedulerOptions options = Options();
    options.prefix_cache = cache;
    Rig rig(options);
    rig.Add(Request(1, 32, 1));
    rig.Drain();
    SequenceRequest again = Request(1, 32, 1);
    again.id = 2;
    if (cache) again.cache_salt = "other";
    rig.Add(again);
    EXPECT_EQ(rig.Step(), "2:32");
  }
}

TEST(PrefixCache, GeneratedTokensAreFoundByTheNextTurn) {
  Rig rig(Options());
  SequenceRequest turn = Request(1, 10, 30);
  rig.Add(turn);
  for (const SequenceEvent& event : rig.Drain()) turn.prompt.push_back(event.token->token);
  turn.id = 2;
  turn.stop.max_tokens = 1;
  rig.Add(turn);
  EXPECT_EQ(rig.Step(), "2:8") << "of 40 tokens 32 are known; the last one's row was never computed";
}

TEST(PrefixCache, ABlockIsSharedWhileTheStepThatFillsItIsInFlight) {
  Rig rig(Options());
  rig.Add(Request(1, 32, 1));
  EXPECT_EQ(rig.Step(), "1:32");
  SequenceRequest same = Request(1, 32, 1);
  same.id = 2;
  rig.Add(same);
  EXPECT_EQ(rig.Step(), "2:16");
}

TEST(After, OtherChoicesWaitForTheSharedPrompt) {
  Rig rig(Options());
  rig.Add(Request(1, 50, 8));
  for (uint64_t id = 2; id <= 4; ++id) {
    SequenceRequest choice = Request(1, 50, 8);
    choice.id = id;
    choice.after = 1;
    choice.sampling.seed = id;
    rig.Add(choice);
  }
  EXPECT_EQ(rig.scheduler.Stats().waiting, 4);
  EXPECT_EQ(rig.Step(), "1:32");
  EXPECT_EQ(rig.Step(), "1:18");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:1 2:2 3:2 4:2") << "48 of 50 tokens are shared";
  EXPECT_EQ(rig.scheduler.Stats().blocks_used, 3 + 4);
}

TEST(After, AnEndedOrUnknownLeaderHoldsNobodyBack) {
  Rig rig(Options());
  rig.Add(Request(1, 50));
  SequenceRequest choice = Request(2, 5);
  choice.after = 1;
  rig.Add(choice);
  choice = Request(3, 5);
  choice.after = 99;
  rig.Add(choice);
  EXPECT_EQ(rig.Step(), "1:32") << "the budget is spent";
  rig.scheduler.Finish(1, FinishReason::kCancelled);
  EXPECT_EQ(rig.Step(), "2:5 3:5");
  // A sequence that is held can be cancelled, too.
  rig.Add(Request(5, 50));
  choice = Request(6, 5);
  choice.after = 5;
  rig.Add(choice);
  EXPECT_TRUE(rig.scheduler.Finish(6, FinishReason::kCancelled).has_value());
  EXPECT_TRUE(rig.scheduler.Finish(5, FinishReason::kCancelled).has_value());
}

TEST(ApplyDeathTest, ResultsMustBelongToTheOldestStep) {
  Rig rig(Options());
  rig.Add(Request(1, 5));
  rig.Step();
  StepResult wrong = rig.in_flight.front();
  wrong.step = 7;
  EXPECT_DEATH(rig.scheduler.Apply(wrong), "the result of step 7, expected that of step 1");
  wrong = rig.in_flight.front();
  wrong.tokens[0].sequence = 9;
  EXPECT_DEATH(rig.scheduler.Apply(wrong), "that of sequence 1 is not at 0");
  wrong.tokens.clear();
  EXPECT_DEATH(rig.scheduler.Apply(wrong), "step 1 has 0 tokens");
}

TEST(PrefixCache, APromptWhoseLayersAreAskedForIsComputedInWhole) {
  Rig rig(Options());
  SequenceRequest first = Request(1, 40), second = Request(2, 40, /*max_tokens=*/3);
  second.prompt = first.prompt;
  rig.Add(first);
  rig.Drain();
  second.layer_outputs = std::make_shared<LayerOutputs>();
  rig.Add(second);
  EXPECT_EQ(rig.Step(), "2:32");  // without layer outputs, 32 of the 40 would have come from the cache
  EXPECT_EQ(rig.last.sequences[0].context, 0);
  EXPECT_EQ(rig.last.sequences[0].local.layer_outputs, second.layer_outputs);
  EXPECT_EQ(rig.Step(), "2:8");
  EXPECT_EQ(rig.last.sequences[0].local.layer_outputs, second.layer_outputs);
  rig.Apply();
  EXPECT_EQ(rig.Step(), "2:1");
  EXPECT_EQ(rig.last.sequences[0].local.layer_outputs, nullptr);  // a generated token
  for (const SequenceEvent& event : rig.Drain()) EXPECT_EQ(event.cached_tokens, 0);
}

}  // namespace
}  // namespace causeway
