// Runs seeded random models, steps and interleavings. In their buffer every byte knows which read put it there.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/staging/staging_ring.h"
#include "engine/staging/testing.h"

namespace causeway {
namespace {

using State = StagingRing::Acquired::State;
using testing::Between;
using testing::OneIn;
using testing::Random;
using testing::StagedModel;
using testing::StagedStep;

constexpr int kSteps = 12;
constexpr int64_t kRowsMax = 5;

struct Trouble {
  bool careless = false;      // steps use other weights than they said
  bool changing = false;      // steps have different numbers of rows from one to the next
  int64_t fails_one_in = 0;   // one in so many reads fails
  int64_t aborts_one_in = 0;  // one in so many actions aborts with what it has acquired
};

class Simulation {
 public:
  Simulation(uint64_t seed, const Trouble& trouble)
      : random_(seed),
        trouble_(trouble),
        model_(testing::MakeStagedModel(random_)),
        // In two of three models there is no more room than a plan gives.
        staging_bytes_(model_.StagingBytes() + (OneIn(random_, 3) ? Between(random_, 0, 60) : 0)),
        step_rows_(Between(random_, 1, kRowsMax)),
        expert_rows_(model_.weights.size(), 1),
        ring_(staging_bytes_),
        buffer_(staging_bytes_, kFree) {
    testing::AddTo(ring_, model_);
    ring_.BeginStep(step_rows_);  // otherwise the ring would prefetch for a step of one row
  }

  void Run() {
    while (steps_ < kSteps && !::testing::Test::HasFatalFailure()) {
      // The computing side may wait and have given the reader something to do.
      const bool moved = (OneIn(random_, 2) && MoveReader()) || MoveComputer() || MoveReader();
      ASSERT_TRUE(moved) << "neither side can do anything, in step " << steps_;
    }
  }

  int64_t dropped() const { return dropped_; }
  int64_t failures() const { return failures_; }

 private:
  static constexpr int kFree = -1, kBeingRead = -2;
  // A read that has ended or is under way; its place in reads_ is the stamp in the buffer.
  struct Span {
    int id = 0;
    int64_t offset = 0;
    bool failed = false;
  };

  int64_t BytesOf(const Span& span) const { return model_.weights[span.id].bytes; }
  void ExpectAll(const Span& span, int stamp) const {
    const auto first = buffer_.begin() + span.offset;
    ASSERT_EQ(std::count(first, first + BytesOf(span), stamp), BytesOf(span)) << "weight " << span.id;
  }
  void Stamp(const Span& span, int stamp) { std::fill_n(buffer_.begin() + span.offset, BytesOf(span), stamp); }

  bool MoveReader() {
    if (reading_) {
      Finish();
      return true;
    }
    const std::optional<StagingRing::Read> next = ring_.Next();
    if (!next.has_value()) return false;
    Start(*next);
    return true;
  }

  void Start(const StagingRing::Read& next) {
    const StagingRing::Read read = ring_.StartRead();
    ASSERT_EQ(read.id, next.id);
    ASSERT_EQ(read.offset, next.offset);
    EXPECT_FALSE(ring_.Next().has_value()) << "one read at a time";
    const Span span{read.id, read.offset};
    ASSERT_GE(span.offset, 0);
    ASSERT_LE(span.offset + BytesOf(span), staging_bytes_);
    for (const int held : held_) {
      const Span& other = reads_[held];
      ASSERT_TRUE(span.offset + BytesOf(span) <= other.offset || other.offset + BytesOf(other) <= span.offset)
          << "weight " << span.id << " is read over weight " << other.id << ", which is acquired";
    }
    Stamp(span, kBeingRead);
    ahead_.push_back(static_cast<int>(reads_.size()));
    reads_.push_back(span);
    reading_ = true;
  }

  void Finish() {
    Span& span = reads_.back();
    ASSERT_NO_FATAL_FAILURE(ExpectAll(span, kBeingRead));
    span.failed = trouble_.fails_one_in > 0 && OneIn(random_, trouble_.fails_one_in);
    Stamp(span, static_cast<int>(reads_.size()) - 1);
    reading_ = false;
    ring_.FinishRead(span.failed ? absl::DataLossError(absl::StrCat(reads_.size() - 1)) : absl::OkStatus());
  }

  bool MoveComputer() {
    if (at_ == step_.actions.size()) {
      BeginStep();
      return true;
    }
    const StagedStep::Action& action = step_.actions[at_];
    if (trouble_.aborts_one_in > 0 && OneIn(random_, trouble_.aborts_one_in)) {
      Abort();
    } else if (action.compute.empty()) {
      for (const auto& [id, rows] : action.expect) expert_rows_[id] = rows;
      ring_.Expect(action.expect);
      ++at_;
    } else if (acquired_ < action.compute.size()) {
      return Acquire(action.compute[acquired_]);
    } else {
      ReleaseAction(action);
    }
    return true;
  }

  void BeginStep() {
    ++steps_;
    if (trouble_.changing) step_rows_ = Between(random_, 1, kRowsMax);
    step_ = testing::MakeStagedStep(model_, step_rows_, trouble_.careless, random_);
    at_ = 0;
    ring_.BeginStep(step_rows_);
  }

  bool Acquire(int id) {
    const bool waited = std::exchange(waiting_, false), can = ring_.CanAcquire();
    const StagingRing::Acquired acquired = ring_.Acquire(id);
    waiting_ = acquired.state == State::kWait;
    if (waited) {
      EXPECT_EQ(waiting_, !can) << "weight " << id;
    }
    const bool on_cpu = model_.OnCpu(id, model_.weights[id].in_order ? step_rows_ : expert_rows_[id]);
    EXPECT_EQ(acquired.state == State::kOnCpu, on_cpu) << "weight " << id;
    if (waiting_) {
      EXPECT_FALSE(ring_.CanAcquire());
      return false;
    }
    if (acquired.state != State::kOnCpu) Take(id, acquired);
    ++acquired_;
    if (acquired.state == State::kFailed) Abort();
    return true;
  }

  // The buffer, or the error, tells which read this is. All reads before that one were in vain.
  void Take(int id, const StagingRing::Acquired& acquired) {
    const bool fails = acquired.state == State::kFailed;
    int read = -1;
    ASSERT_TRUE(!fails || absl::SimpleAtoi(acquired.status.message(), &read));
    if (!fails) read = buffer_[acquired.offset];
    while (!ahead_.empty() && ahead_.front() != read) {
      ahead_.pop_front();
      ++dropped_;
    }
    ASSERT_FALSE(ahead_.empty()) << "weight " << id << " was not read ahead by read " << read;
    ahead_.pop_front();
    EXPECT_EQ(reads_[read].id, id);
    EXPECT_EQ(reads_[read].failed, fails);
    failures_ += fails;
    if (fails) return;
    EXPECT_EQ(reads_[read].offset, acquired.offset);
    ASSERT_NO_FATAL_FAILURE(ExpectAll(reads_[read], read));
    held_.push_back(read);
  }

  void ReleaseAction(const StagedStep::Action& action) {
    for (const int read : held_) ASSERT_NO_FATAL_FAILURE(ExpectAll(reads_[read], read));
    for (const int id : action.compute) {
      const bool was_held = std::any_of(held_.begin(), held_.end(), [&](int read) { return reads_[read].id == id; });
      EXPECT_EQ(ring_.Release(id), was_held) << "weight " << id;
      EXPECT_FALSE(ring_.Release(id)) << "weight " << id << " is released once";
    }
    held_.clear();
    acquired_ = 0;
    ++at_;
  }

  void Abort() {
    std::vector<int> held;
    for (const int read : held_) held.push_back(reads_[read].id);
    EXPECT_EQ(ring_.ReleaseAll(), held);
    held_.clear();
    acquired_ = 0;
    waiting_ = false;
    at_ = step_.actions.size();
  }

  Random random_;
  const Trouble trouble_;
  const StagedModel model_;
  const int64_t staging_bytes_;
  int64_t step_rows_;
  std::vector<int64_t> expert_rows_;  // one for each id
  StagingRing ring_;
  std::vector<int> buffer_;  // one for each byte: the read that it came from
  std::vector<Span> reads_;
  std::deque<int> ahead_;  // reads that are neither acquired nor dropped, as places in reads_
  std::vector<int> held_;  // reads that are acquired, as places in reads_
  bool reading_ = false;   // the last one of reads_ is under way
  StagedStep step_;
  size_t at_ = 0;        // which of the step's actions comes next
  size_t acquired_ = 0;  // how many of the action's weights are acquired
  bool waiting_ = false;
  int steps_ = 0;
  int64_t dropped_ = 0, failures_ = 0;
};

struct Totals {
  int64_t dropped = 0, failures = 0;
};

Totals RunAll(const Trouble& trouble, uint64_t seeds) {
  Totals totals;
  for (uint64_t seed = 1; seed <= seeds && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed, trouble);
    simulation.Run();
    totals.dropped += simulation.dropped();
    totals.failures += simulation.failures();
  }
  return totals;
}

TEST(StagingRingSimulation, StepsInOrderReadEverythingOnceAndInTheOrderOfUse) {
  EXPECT_EQ(RunAll({}, 2000).dropped, 0);
}

TEST(StagingRingSimulation, StepsOfOtherSizesChangeWhatIsRead) {
  EXPECT_GT(RunAll({.changing = true}, 2000).dropped, 0);
}

TEST(StagingRingSimulation, WhatIsExpectedAndNotUsedIsDropped) {
  EXPECT_GT(RunAll({.careless = true}, 2000).dropped, 0);
}

TEST(StagingRingSimulation, AStepThatEndsEarlyLeavesTheNextOneWhole) {
  EXPECT_GT(RunAll({.aborts_one_in = 20}, 2000).dropped, 0);
}

TEST(StagingRingSimulation, AFailedReadFailsWhoAcquiresItAndNobodyElse) {
  EXPECT_GT(RunAll({.fails_one_in = 10}, 2000).failures, 0);
}

TEST(StagingRingSimulation, AllOfItAtOnce) {
  const Totals totals = RunAll({.careless = true, .changing = true, .fails_one_in = 15, .aborts_one_in = 30}, 4000);
  EXPECT_GT(totals.dropped, 0);
  EXPECT_GT(totals.failures, 0);
}

}  // namespace
}  // namespace causeway
