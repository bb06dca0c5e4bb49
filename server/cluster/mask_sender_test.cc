#include "server/cluster/mask_sender.h"

#include <map>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using State = TokenMask::State;

// Allows the token of its index, once the test lets that mask be ready.
class FakeConstraint final : public TokenConstraint {
 public:
  explicit FakeConstraint(int64_t ready) : ready_(ready) {}
  void Ready(int64_t index) {
    absl::MutexLock lock(&mutex_);
    ready_ = index;
  }
  bool Soon(int64_t) const override { return true; }
  TokenMask Await(int64_t index) override {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this, index] { return index <= ready_ || ended_; };
    mutex_.Await(absl::Condition(&ready));
    if (ended_) return {.state = State::kComplete};
    EXPECT_EQ(index, next_);
    word_ = static_cast<uint32_t>(index);
    return {.allowed = absl::MakeConstSpan(&word_, 1)};
  }
  void Chosen(int64_t index, int32_t token) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_EQ(index, next_++);
    chosen_.push_back(token);
  }
  void End() {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }
  std::vector<int32_t> chosen() {
    absl::MutexLock lock(&mutex_);
    return chosen_;
  }

 private:
  absl::Mutex mutex_;
  int64_t ready_, next_ = 0;
  bool ended_ = false;
  uint32_t word_ = 0;
  std::vector<int32_t> chosen_;
};

// What was sent, "INDEX" or "INDEX end", by sequence.
class Sent {
 public:
  MaskSender::Send Function() {
    return [this](uint64_t sequence, int64_t index, const TokenMask& mask) {
      absl::MutexLock lock(&mutex_);
      if (mask.state == State::kTokens) {
        EXPECT_THAT(mask.allowed, ElementsAre(static_cast<uint32_t>(index)));
      }
      sent_[sequence].push_back(absl::StrCat(index, mask.state == State::kTokens ? "" : " end"));
    };
  }
  std::vector<std::string> Of(uint64_t sequence) {
    absl::MutexLock lock(&mutex_);
    return sent_[sequence];
  }
  void AwaitOf(uint64_t sequence, size_t masks) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&] { return sent_[sequence].size() >= masks; };
    mutex_.Await(absl::Condition(&there));
  }

 private:
  absl::Mutex mutex_;
  std::map<uint64_t, std::vector<std::string>> sent_;
};

TEST(MaskSender, EachMaskIsSentOnceTheTokenBeforeItIsChosen) {
  Sent sent;
  auto constraint = std::make_shared<FakeConstraint>(100);
  MaskSender sender(sent.Function());
  sender.Start(0, 5, constraint);
  for (int64_t index = 0; index < 3; ++index) sender.Sampling(5, index);  // launched ahead
  for (int64_t index = 0; index < 3; ++index) {
    sent.AwaitOf(5, index + 1);
    EXPECT_THAT(constraint->chosen(), ::testing::SizeIs(index));
    ASSERT_EQ(sender.Sampled(5, index, 10 + index, true), absl::OkStatus());
  }
  EXPECT_THAT(sent.Of(5), ElementsAre("0", "1", "2"));
  EXPECT_THAT(constraint->chosen(), ElementsAre(10, 11, 12));
}

TEST(MaskSender, SlowGrammarsHoldUpNoOther) {
  static_assert(MaskSender::kThreads > 2);
  Sent sent;
  std::vector<std::shared_ptr<FakeConstraint>> slow;
  MaskSender sender(sent.Function());
  for (int i = 0; i < MaskSender::kThreads - 1; ++i) {
    sender.Start(i, i, slow.emplace_back(std::make_shared<FakeConstraint>(-1)));
    sender.Sampling(i, 0);
  }
  sender.Start(10, 10, std::make_shared<FakeConstraint>(100));
  for (int64_t index = 0; index < 50; ++index) {
    sender.Sampling(10, index);
    sent.AwaitOf(10, index + 1);
    ASSERT_EQ(sender.Sampled(10, index, 1, true), absl::OkStatus());
  }
  EXPECT_THAT(sent.Of(0), IsEmpty());
  for (const auto& constraint : slow) constraint->Ready(0);
  for (size_t i = 0; i < slow.size(); ++i) sent.AwaitOf(i, 1);
}

TEST(MaskSender, ASequenceThatEndedIsAskedForTheRestOfItsTokens) {
  Sent sent;
  auto constraint = std::make_shared<FakeConstraint>(-1);
  MaskSender sender(sent.Function());
  sender.Start(0, 5, constraint);
  sender.Sampling(5, 0);
  sender.Sampling(5, 1);
  // The step failed while its mask was waited for.
  ASSERT_EQ(sender.Sampled(5, 0, 0, false), absl::OkStatus());
  constraint->End();
  sent.AwaitOf(5, 1);
  sent.AwaitOf(5, sent.Of(5).front() == "0 end" ? 2 : 1);
  EXPECT_EQ(sent.Of(5).back(), "1 end");
  EXPECT_THAT(constraint->chosen(), IsEmpty());
}

TEST(MaskSender, ASlotsNewSequenceReplacesTheOld) {
  Sent sent;
  MaskSender sender(sent.Function());
  auto first = std::make_shared<FakeConstraint>(100), second = std::make_shared<FakeConstraint>(100);
  sender.Start(3, 1, first);
  sender.Sampling(1, 0);
  sent.AwaitOf(1, 1);
  sender.Start(3, 2, second);  // while a token of the old is in flight
  EXPECT_EQ(sender.sequences(), 2u);
  sender.Sampling(1, 1);  // a step that was planned before that was known
  ASSERT_EQ(sender.Sampled(1, 0, 7, true), absl::OkStatus());
  sent.AwaitOf(1, 2);
  ASSERT_EQ(sender.Sampled(1, 1, 7, true), absl::OkStatus());
  sender.Start(3, 4, nullptr);
  while (sender.sequences() != 0) std::this_thread::yield();  // until Send has returned
  EXPECT_EQ(first.use_count(), 1);
  sender.Sampling(4, 0);
  EXPECT_EQ(sender.Sampled(4, 0, 7, true), absl::OkStatus());
  EXPECT_THAT(sent.Of(4), IsEmpty());
}

TEST(MaskSender, APreemptedSequenceGoesOnInAnotherSlot) {
  Sent sent;
  MaskSender sender(sent.Function());
  auto constraint = std::make_shared<FakeConstraint>(100);
  sender.Start(3, 1, constraint);
  sender.Sampling(1, 0);
  sent.AwaitOf(1, 1);
  ASSERT_EQ(sender.Sampled(1, 0, 7, true), absl::OkStatus());
  sender.Start(4, 1, constraint);
  sender.Start(3, 2, nullptr);  // takes the slot that it had
  sender.Sampling(1, 1);
  sent.AwaitOf(1, 2);
  EXPECT_THAT(sent.Of(1), ElementsAre("0", "1"));
  sender.Start(4, 1, constraint);  // again, in its own slot
  EXPECT_EQ(sender.Sampled(1, 1, 8, true), absl::OkStatus());
  EXPECT_EQ(sender.sequences(), 1u);
}

TEST(MaskSender, ResultsOutOfStepAreErrors) {
  Sent sent;
  auto constraint = std::make_shared<FakeConstraint>(-1);
  MaskSender sender(sent.Function());
  sender.Start(0, 5, constraint);
  EXPECT_THAT(sender.Sampled(5, 0, 1, true).message(), HasSubstr("token 0 was sampled, and none was to be the next"));
  sender.Sampling(5, 0);
  EXPECT_THAT(sender.Sampled(5, 1, 1, true).message(), HasSubstr("token 1 was sampled, and 0 was to be the next"));
  EXPECT_THAT(sender.Sampled(5, 0, 1, true).message(), HasSubstr("token 0 was sampled before its mask was sent"));
  constraint->Ready(0);
}

TEST(MaskSender, ItEndsWithMasksThatNobodyAskedFor) {
  Sent sent;
  auto constraint = std::make_shared<FakeConstraint>(100);
  {
    MaskSender sender(sent.Function());
    sender.Start(0, 5, constraint);
    for (int64_t index = 0; index < 3; ++index) sender.Sampling(5, index);
  }
  EXPECT_LE(sent.Of(5).size(), 1u);
}

}  // namespace
}  // namespace causeway
