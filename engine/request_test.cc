#include "engine/request.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using ::testing::ElementsAre;

constexpr RequestHandle kHandle = 40;

class RecordingSink : public TokenSink {
 public:
  void OnDelta(GenerationDelta delta) override { text += delta.text; }
  void OnEnd(GenerationEnd ended) override { ends.push_back(std::move(ended)); }

  std::string text;  // the text of all choices
  std::vector<GenerationEnd> ends;
};

class RecordingObserver : public EngineObserver {
 public:
  void OnStep(const Step&) override {}
  void OnAdmitted(double queue_seconds) override { admitted.push_back(queue_seconds); }
  void OnFirstToken(double seconds) override { first_tokens.push_back(seconds); }
  void OnInterToken(double seconds) override { inter_tokens.push_back(seconds); }
  void OnEnd(const GenerationEnd&, double seconds) override { ends.push_back(seconds); }

  std::vector<double> admitted, first_tokens, inter_tokens, ends;
};

class RequestTest : public testing::Test {
 protected:
  void Make(GenerationRequest request) {
    request.prompt = Encode("In the beginning");
    active_ = std::make_unique<ActiveRequest>(std::move(request), sink_, tokenizer_.get(), kHandle, start_);
  }
  std::vector<int32_t> Encode(const std::string& text) {
    return *tokenizer_->Encode(text, /*add_special_tokens=*/false);
  }
  static SequenceEvent Token(int32_t id, int index = 0) {
    SequenceEvent event;
    event.sequence = kHandle + index;
    event.token.emplace();
    event.token->token = id;
    return event;
  }
  static SequenceEvent Finished(FinishReason reason, int index = 0) {
    SequenceEvent event;
    event.sequence = kHandle + index;
    event.finished = reason;
    return event;
  }
  bool Take(const SequenceEvent& event, double seconds = 1) {
    return active_->Take(event, start_ + absl::Seconds(seconds), &observer_);
  }
  const GenerationEnd& Close(double seconds = 9) {
    EXPECT_TRUE(active_->ended());
    active_->Close(start_ + absl::Seconds(seconds), &observer_);
    EXPECT_EQ(sink_->ends.size(), 1u);
    return sink_->ends.back();
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = *Tokenizer::Load(CAUSEWAY_SOURCE_DIR "/models/kjv");
  const absl::Time start_ = absl::FromUnixSeconds(1000);
  const std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  RecordingObserver observer_;
  std::unique_ptr<ActiveRequest> active_;
};

TEST_F(RequestTest, TimesAreThoseOfQueuePrefillAndDecode) {
  Make({});
  active_->Admit(start_ + absl::Seconds(2), &observer_);
  EXPECT_FALSE(Take(Token(300), 5));
  EXPECT_FALSE(Take(Token(301), 6));
  EXPECT_TRUE(Take(Finished(FinishReason::kLength), 6));
  const GenerationEnd& end = Close(9);
  EXPECT_EQ(end.queue_seconds, 2);
  EXPECT_EQ(end.prefill_seconds, 3);
  EXPECT_EQ(end.decode_seconds, 4);
  EXPECT_EQ(end.generated_tokens, 2);
  EXPECT_THAT(observer_.admitted, ElementsAre(2));
  EXPECT_THAT(observer_.first_tokens, ElementsAre(5));
  EXPECT_THAT(observer_.inter_tokens, ElementsAre(1));
  EXPECT_THAT(observer_.ends, ElementsAre(9));
}

TEST_F(RequestTest, CancelledDuringItsPromptItKeepsWhatIsKnown) {
  Make({});
  active_->Admit(start_ + absl::Seconds(2), &observer_);
  SequenceEvent cancelled = Finished(FinishReason::kCancelled);
  cancelled.cached_tokens = 16;
  EXPECT_TRUE(Take(cancelled, 3));
  const GenerationEnd& end = Close(3);
  EXPECT_EQ(end.choices[0].reason, FinishReason::kCancelled);
  EXPECT_EQ(end.cached_tokens, 16);
  EXPECT_EQ(end.queue_seconds, 2);
  EXPECT_EQ(end.prefill_seconds, 1);
}

TEST_F(RequestTest, NeverAdmittedItHasOnlyWaited) {
  Make({});
  EXPECT_TRUE(Take(Finished(FinishReason::kDeadline), 7));
  const GenerationEnd& end = Close(7);
  EXPECT_EQ(end.queue_seconds, 7);
  EXPECT_EQ(end.prefill_seconds, 0);
  EXPECT_TRUE(observer_.admitted.empty());
}

TEST_F(RequestTest, CachedTokensAreTheFirstChoices) {
  GenerationRequest request;
  request.n = 2;
  Make(std::move(request));
  for (int index = 0; index < 2; ++index) {
    SequenceEvent event = Finished(FinishReason::kLength, index);
    event.cached_tokens = index == 0 ? 0 : 64;  // the second choice finds the first one's prompt
    EXPECT_TRUE(Take(event));
  }
  EXPECT_EQ(Close().cached_tokens, 0);
}

TEST_F(RequestTest, AStopStringEndsOneChoiceAndLeavesTheOther) {
  GenerationRequest request;
  request.n = 2;
  request.stop.strings = {"LORD"};
  Make(std::move(request));
  const std::vector<int32_t> ids = Encode(" the LORD");
  bool ended = false;
  for (size_t i = 0; i < ids.size(); ++i) ended = Take(Token(ids[i]));
  EXPECT_TRUE(ended);
  EXPECT_EQ(sink_->text, " the ");
  EXPECT_THAT(active_->Live(), ElementsAre(kHandle + 1));
  EXPECT_TRUE(Take(Finished(FinishReason::kLength, 1)));
  const GenerationEnd& end = Close();
  EXPECT_EQ(end.choices[0].reason, FinishReason::kStop);
  EXPECT_EQ(end.choices[0].stop_match, "LORD");
  EXPECT_EQ(end.choices[1].reason, FinishReason::kLength);
}

TEST_F(RequestTest, AStopTokenIsNamedByItsText) {
  const int32_t word = Encode(" LORD").front();
  for (const auto& [id, text] : {std::pair<int32_t, std::string>{word, *tokenizer_->Decode({word}, true)}, {1, ""}}) {
    sink_->ends.clear();
    sink_->text.clear();
    Make({});
    SequenceEvent event = Token(id);
    event.finished = FinishReason::kStop;
    event.stop_token = id;
    EXPECT_TRUE(Take(event));
    EXPECT_EQ(Close().choices[0].stop_match, text);
    EXPECT_EQ(sink_->text, "") << "a stop token is no part of the text";
  }
}

// The first byte of a character is held back. The end makes U+FFFD of it, which is the stop string.
TEST_F(RequestTest, WhatTheEndSetsFreeStopsAChoiceThatWasNotCutOff) {
  const int32_t half = Encode("\xC3\xA9").front();
  ASSERT_EQ(*tokenizer_->Decode({half}, true), "\xEF\xBF\xBD");
  for (const auto& [reason, expected] : {std::pair{FinishReason::kLength, FinishReason::kStop},
                                         {FinishReason::kDeadline, FinishReason::kDeadline},
                                         {FinishReason::kCancelled, FinishReason::kCancelled},
                                         {FinishReason::kError, FinishReason::kError}}) {
    sink_->ends.clear();
    GenerationRequest request;
    request.stop.strings = {"\xEF\xBF\xBD"};
    Make(std::move(request));
    EXPECT_FALSE(Take(Token(half)));
    EXPECT_TRUE(Take(Finished(reason)));
    EXPECT_EQ(Close().choices[0].reason, expected);
  }
}

TEST_F(RequestTest, AFailedStepIsTheRequestsError) {
  Make({});
  SequenceEvent event = Finished(FinishReason::kError);
  event.status = absl::InternalError("the device is gone");
  EXPECT_TRUE(Take(event));
  EXPECT_EQ(Close().status.message(), "the device is gone");
}

}  // namespace
}  // namespace causeway
