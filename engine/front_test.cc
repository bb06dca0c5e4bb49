#include "engine/front.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using ::testing::HasSubstr;

class Sink final : public TokenSink {
 public:
  void OnDelta(GenerationDelta) override {}
  void OnEnd(GenerationEnd) override {}
};

class FrontTest : public ::testing::Test {
 protected:
  absl::StatusOr<RequestHandle> Submit(const std::string& id, int32_t priority = 0, int32_t choices = 1,
                                       absl::Time deadline = absl::InfiniteFuture()) {
    GenerationRequest request{.request_id = id, .prompt = {1, 2}};
    request.n = choices;
    request.priority = priority;
    request.deadline = deadline;
    return front_.Submit(id, choices, [&](RequestHandle handle) {
      return std::make_unique<ActiveRequest>(request, std::make_shared<Sink>(), /*tokenizer=*/nullptr, handle,
                                             clock_.Now());
    });
  }
  // The id of the request that one of the loops gets, or "" where none gets one.
  std::string Take(bool can_start = true) {
    const std::string first = TakeAs(0, can_start);
    return first.empty() ? TakeAs(1, can_start) : first;
  }
  std::string TakeAs(int loop, bool can_start = true) {
    std::unique_ptr<ActiveRequest> request = front_.TakeRequest(loop, [&](const ActiveRequest&) { return can_start; });
    if (request == nullptr) return "";
    taken_.push_back(std::move(request));
    return taken_.back()->id();
  }

  FakeClock clock_;
  Front front_{/*loops=*/2, /*queue_max=*/3, /*context_max=*/100, /*blocks=*/100, &clock_};
  std::vector<std::unique_ptr<ActiveRequest>> taken_;
};

TEST_F(FrontTest, RequestsWaitUntilALoopCanStartThemInTheOneOrder) {
  ASSERT_TRUE(Submit("a").ok() && Submit("b", /*priority=*/1).ok() && Submit("c").ok());
  EXPECT_EQ(Take(/*can_start=*/false), "");
  EXPECT_EQ(front_.counts().waiting, 3);
  EXPECT_EQ(Take(), "b");
  EXPECT_EQ(Take(), "a");
  EXPECT_EQ(Take(), "c");
  EXPECT_EQ(Take(), "");
  EXPECT_EQ(front_.counts().waiting, 3) << "taken, and not in a step yet";
  taken_[0]->Admit(clock_.Now(), nullptr);
  front_.Admitted();
  EXPECT_EQ(front_.counts().waiting, 2);
  EXPECT_EQ(front_.counts().running, 1);
  for (const auto& request : taken_) front_.Ended(*request);
  EXPECT_EQ(front_.counts().waiting + front_.counts().running, 0);
}

TEST_F(FrontTest, RequestsGoToTheLoopWithTheFewestTokensLeft) {
  ASSERT_TRUE(Submit("a").ok() && Submit("b").ok() && Submit("c").ok());
  EXPECT_EQ(TakeAs(1), "") << "loop 0 is the one for it";
  EXPECT_EQ(TakeAs(0), "a");
  EXPECT_EQ(TakeAs(0), "") << "it has one already";
  EXPECT_EQ(TakeAs(1), "b");
  EXPECT_EQ(TakeAs(0), "c");
  for (const auto& request : taken_) front_.Ended(*request);
}

TEST_F(FrontTest, ALoopThatCannotStartARequestLeavesItToAnother) {
  ASSERT_TRUE(Submit("a").ok());
  EXPECT_EQ(TakeAs(0, /*can_start=*/false), "");
  EXPECT_EQ(TakeAs(1), "a");
  // The next one is asked of all again.
  ASSERT_TRUE(Submit("b").ok());
  EXPECT_EQ(TakeAs(0), "b");
  for (const auto& request : taken_) front_.Ended(*request);
}

// Both wait while neither can start the first request: they must not keep each other awake.
TEST_F(FrontTest, LoopsThatRefuseARequestSleep) {
  ASSERT_TRUE(Submit("a").ok());
  for (const int loop : {0, 1, 0, 1}) {
    front_.TakeCommands(loop);
    EXPECT_EQ(TakeAs(loop, /*can_start=*/false), "");
  }
  for (const int loop : {0, 1}) front_.TakeCommands(loop);
  for (const int loop : {0, 1}) EXPECT_EQ(TakeAs(loop, /*can_start=*/false), "");
  const absl::Time begun = absl::Now();
  for (const int loop : {0, 1}) front_.AwaitCommands(loop, clock_.Now() + absl::Milliseconds(20));
  EXPECT_GE(absl::Now() - begun, absl::Milliseconds(35));
  // Who has room again takes it.
  EXPECT_EQ(TakeAs(1), "a");
  front_.Ended(*taken_.back());
}

TEST_F(FrontTest, ALostLoopGetsNoRequests) {
  ASSERT_TRUE(Submit("a").ok() && Submit("b").ok());
  EXPECT_EQ(front_.Lose(0), 1);
  EXPECT_EQ(TakeAs(0), "");
  EXPECT_EQ(TakeAs(1), "a");
  EXPECT_EQ(TakeAs(1), "b");
  EXPECT_EQ(front_.Lose(1), 0);
  ASSERT_TRUE(Submit("c").ok());
  EXPECT_EQ(TakeAs(0), "");
  EXPECT_EQ(TakeAs(1), "c") << "somebody has to end it";
  for (const auto& request : taken_) front_.Ended(*request);
}

TEST_F(FrontTest, ChoicesTakeHandlesOfTheirOwn) {
  const RequestHandle first = *Submit("a", 0, /*choices=*/3), second = *Submit("b");
  EXPECT_EQ(second, first + 3);
}

TEST_F(FrontTest, AFullQueueAndAnIdInUseAreRefused) {
  ASSERT_TRUE(Submit("a").ok());
  EXPECT_EQ(Submit("a").status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(Submit("b").ok() && Submit("c").ok());
  const absl::Status full = Submit("d").status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("3 requests are waiting and the limit is 3"));
}

TEST_F(FrontTest, AnotherLimitHoldsForWhatComes) {
  ASSERT_TRUE(Submit("a").ok() && Submit("b").ok() && Submit("c").ok());
  front_.SetQueueMax(4);
  EXPECT_TRUE(Submit("d").ok());
  front_.SetQueueMax(1);
  EXPECT_EQ(Submit("e").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(front_.counts().waiting, 4) << "what has been accepted stays";
}

TEST_F(FrontTest, WhatIsCancelledWhileItWaitsIsGivenToALoopOnce) {
  const RequestHandle a = *Submit("a");
  ASSERT_TRUE(Submit("b").ok());
  front_.Cancel(a);
  EXPECT_TRUE(front_.Cancel("b").ok());
  EXPECT_EQ(front_.Cancel("x").code(), absl::StatusCode::kNotFound);
  const Front::Commands commands = front_.TakeCommands(1);
  ASSERT_EQ(commands.ended.size(), 2u);
  EXPECT_EQ(commands.ended[0].first->id(), "a");
  EXPECT_EQ(commands.ended[0].second, FinishReason::kCancelled);
  EXPECT_TRUE(front_.TakeCommands(0).ended.empty());
  EXPECT_EQ(Take(), "");
}

TEST_F(FrontTest, WhatIsCancelledOnceTakenIsToldToEveryLoop) {
  const RequestHandle a = *Submit("a");
  EXPECT_EQ(Take(), "a");
  front_.Cancel(a);
  EXPECT_THAT(front_.TakeCommands(0).cancellations, ::testing::ElementsAre(a));
  EXPECT_THAT(front_.TakeCommands(1).cancellations, ::testing::ElementsAre(a));
}

TEST_F(FrontTest, DeadlinesPassWhileRequestsWait) {
  ASSERT_TRUE(Submit("a", 0, 1, clock_.Now() + absl::Seconds(5)).ok() && Submit("b").ok());
  EXPECT_TRUE(front_.TakeCommands(0).ended.empty());
  clock_.Advance(absl::Seconds(6));
  const Front::Commands commands = front_.TakeCommands(0);
  ASSERT_EQ(commands.ended.size(), 1u);
  EXPECT_EQ(commands.ended[0].first->id(), "a");
  EXPECT_EQ(commands.ended[0].second, FinishReason::kDeadline);
  EXPECT_EQ(Take(), "b");
}

TEST_F(FrontTest, ALoopThatWaitsIsWokenByARequest) {
  front_.TakeCommands(1);
  std::thread loop([&] { front_.AwaitCommands(1, absl::InfiniteFuture()); });
  ASSERT_TRUE(Submit("a").ok());
  loop.join();
  EXPECT_EQ(Take(), "a");
}

TEST_F(FrontTest, StoppingEndsWhatWaitsAndRefusesTheRest) {
  ASSERT_TRUE(Submit("a").ok());
  front_.Stop();
  EXPECT_EQ(Submit("b").status().code(), absl::StatusCode::kUnavailable);
  const Front::Commands commands = front_.TakeCommands(0);
  EXPECT_TRUE(commands.stop);
  EXPECT_EQ(commands.ended.size(), 1u);
  EXPECT_TRUE(front_.TakeCommands(1).stop);
}

}  // namespace
}  // namespace causeway
