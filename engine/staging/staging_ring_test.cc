#include "engine/staging/staging_ring.h"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"

namespace causeway {
namespace {

using State = StagingRing::Acquired::State;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;
using ::testing::Pair;
using Reads = std::vector<std::pair<int, int64_t>>;  // id, offset

std::optional<std::pair<int, int64_t>> Next(const StagingRing& ring) {
  const std::optional<StagingRing::Read> next = ring.Next();
  return next.has_value() ? std::optional(std::pair(next->id, next->offset)) : std::nullopt;
}

// All reads that can be done now, one after the other.
Reads ReadAll(StagingRing& ring) {
  Reads reads;
  while (ring.Next().has_value()) {
    if (reads.size() == 100) throw std::runtime_error("reading never ends");
    const StagingRing::Read read = ring.StartRead();
    reads.emplace_back(read.id, read.offset);
    ring.FinishRead(absl::OkStatus());
  }
  return reads;
}

// Acquires a weight that has been read, and returns where it is.
int64_t Take(StagingRing& ring, int id) {
  const StagingRing::Acquired acquired = ring.Acquire(id);
  EXPECT_EQ(acquired.state, State::kReady) << "weight " << id;
  return acquired.offset;
}

// A ring with weights in order, on disk.
StagingRing InOrder(int64_t staging_bytes, const std::vector<int64_t>& bytes) {
  StagingRing ring(staging_bytes);
  for (const int64_t b : bytes) ring.AddInOrder(b, /*in_cpu_memory=*/false);
  return ring;
}

TEST(StagingRing, ReadsAsFarAheadAsThereIsRoomAndRoundAndRound) {
  StagingRing ring = InOrder(10, {4, 6, 4});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(1, 4)));
  EXPECT_EQ(Take(ring, 0), 0);
  EXPECT_THAT(ReadAll(ring), IsEmpty()) << "the first one is being computed from";
  EXPECT_TRUE(ring.Release(0));
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(2, 0)));
  EXPECT_EQ(Take(ring, 1), 4);
  EXPECT_TRUE(ring.Release(1));
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 4))) << "for the next step";
}

TEST(StagingRing, OneWeightIsReadForTheNextStepWhileItIsComputedFrom) {
  StagingRing ring = InOrder(7, {3});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(0, 3)));
  EXPECT_EQ(Take(ring, 0), 0);
  EXPECT_TRUE(ring.Release(0));
  EXPECT_EQ(Take(ring, 0), 3);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0)));
}

// A slot is one stretch. While weight 1 is computed from, 4 bytes are free, two on either side of it.
TEST(StagingRing, WhatFitsInNoStretchWaitsForMoreRoom) {
  StagingRing ring = InOrder(10, {2, 6, 4});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(1, 2)));
  Take(ring, 0);
  ring.Release(0);
  Take(ring, 1);
  EXPECT_EQ(Next(ring), std::nullopt);
  ring.Release(1);
  EXPECT_THAT(Next(ring), Optional(Pair(2, 0)));
}

TEST(StagingRing, ReadsOneAfterTheOther) {
  StagingRing ring = InOrder(10, {4, 6});
  ring.StartRead();
  EXPECT_EQ(Next(ring), std::nullopt);
  ring.FinishRead(absl::OkStatus());
  EXPECT_THAT(Next(ring), Optional(Pair(1, 4)));
}

TEST(StagingRing, AcquireWaitsUntilTheWeightIsRead) {
  StagingRing ring = InOrder(10, {4, 6});
  EXPECT_EQ(ring.Acquire(0).state, State::kWait);
  EXPECT_FALSE(ring.CanAcquire());
  ring.StartRead();
  EXPECT_EQ(ring.Acquire(0).state, State::kWait);
  EXPECT_FALSE(ring.CanAcquire());
  ring.FinishRead(absl::OkStatus());
  EXPECT_TRUE(ring.CanAcquire());
  EXPECT_EQ(Take(ring, 0), 0);
  EXPECT_FALSE(ring.CanAcquire()) << "the next one is not there yet";
}

TEST(StagingRing, WhatIsAcquiredOutOfOrderDropsWhatWasReadAhead) {
  StagingRing ring = InOrder(10, {4, 6, 3, 7});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(1, 4)));
  EXPECT_EQ(ring.Acquire(2).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(2, 0), Pair(3, 3)));
  EXPECT_EQ(Take(ring, 2), 0);
}

TEST(StagingRing, WhatIsDroppedWhileItIsReadKeepsItsRoomUntilTheEnd) {
  StagingRing ring = InOrder(10, {4, 6, 8});
  ring.StartRead();
  EXPECT_EQ(ring.Acquire(2).state, State::kWait);
  EXPECT_EQ(Next(ring), std::nullopt);
  ring.FinishRead(absl::OkStatus());
  EXPECT_FALSE(ring.CanAcquire());
  EXPECT_THAT(Next(ring), Optional(Pair(2, 0)));
}

// Weights 1 to 4 are two experts of one layer, 5 is one of another layer.
StagingRing WithExperts(int64_t staging_bytes, bool in_cpu_memory = false) {
  StagingRing ring(staging_bytes);
  EXPECT_EQ(ring.AddInOrder(2, false), 0);
  for (int id = 1; id <= 4; ++id) EXPECT_EQ(ring.AddExpert(0, 3, in_cpu_memory), id);
  EXPECT_EQ(ring.AddExpert(1, 3, in_cpu_memory), 5);
  EXPECT_EQ(ring.AddInOrder(2, false), 6);
  return ring;
}

TEST(StagingRing, ExpertsAreReadOnceTheyAreExpected) {
  StagingRing ring = WithExperts(12);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0)));
  Take(ring, 0);
  ring.Release(0);
  EXPECT_THAT(ReadAll(ring), IsEmpty());
  ring.Expect({{3, 1}, {4, 1}});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(3, 0), Pair(4, 3))) << "what follows waits for the other layer's experts";
  EXPECT_EQ(Take(ring, 3), 0);
  EXPECT_EQ(Take(ring, 4), 3);
  ring.Expect({{5, 1}});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(5, 6), Pair(6, 9))) << "those that are acquired stay";
}

TEST(StagingRing, WithoutExpertsToReadWhatFollowsIsRead) {
  StagingRing ring = WithExperts(12);
  ReadAll(ring);
  Take(ring, 0);
  ring.Release(0);
  ring.Expect({});
  EXPECT_THAT(ReadAll(ring), IsEmpty()) << "the other layer's barrier";
  ring.Expect({});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(6, 0), Pair(0, 2)));
}

TEST(StagingRing, ExpectedExpertsThatAreNotAcquiredAreDropped) {
  StagingRing ring = WithExperts(12);
  ReadAll(ring);
  Take(ring, 0);
  ring.Release(0);
  ring.Expect({{1, 1}, {2, 1}, {3, 1}, {4, 1}});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(1, 0), Pair(2, 3), Pair(3, 6), Pair(4, 9)));
  Take(ring, 1);
  Take(ring, 2);
  ring.Release(1);
  ring.Release(2);
  ring.Expect({{5, 1}});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(5, 0), Pair(6, 3), Pair(0, 5)));
}

TEST(StagingRing, ExpectedExpertsThatAreNotReadYetAreForgottenWhenSomethingElseIsAcquired) {
  StagingRing ring = WithExperts(12);
  ring.Expect({{1, 1}, {2, 1}});
  EXPECT_EQ(ring.Acquire(6).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(6, 0), Pair(0, 2)));
}

TEST(StagingRing, AnExpertThatWasNotExpectedIsReadBeforeWhatFollows) {
  StagingRing ring = WithExperts(12);
  ReadAll(ring);
  Take(ring, 0);
  ring.Release(0);
  EXPECT_EQ(ring.Acquire(5).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(5, 0), Pair(6, 3), Pair(0, 5)));
}

TEST(StagingRing, TheCpuComputesExpertsOfFewRows) {
  StagingRing ring = WithExperts(12, /*in_cpu_memory=*/true);
  ring.SetCpuRows({.experts = 3, .in_order = 100});
  ReadAll(ring);
  Take(ring, 0);
  ring.Release(0);
  ring.Expect({{1, 3}, {2, 3}, {3, 4}, {4, 4}});
  EXPECT_EQ(ring.Acquire(1).state, State::kOnCpu);
  EXPECT_FALSE(ring.Release(1));
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(3, 0), Pair(4, 3)));
  EXPECT_EQ(Take(ring, 3), 0);
}

TEST(StagingRing, TheCpuComputesStepsOfFewRows) {
  StagingRing ring(10);
  for (const bool in_cpu_memory : {true, false, true, false}) ring.AddInOrder(4, in_cpu_memory);
  EXPECT_EQ(ring.cpu_rows().in_order, 0);
  ring.SetCpuRows({.experts = 100, .in_order = 2});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(1, 0), Pair(3, 4))) << "until it is told, a step has one row";
  ring.BeginStep(2);
  EXPECT_EQ(ring.Acquire(0).state, State::kOnCpu);
  EXPECT_EQ(Take(ring, 1), 0);
  ring.Release(1);
  EXPECT_EQ(ring.Acquire(2).state, State::kOnCpu);

  // Weight 3 was prefetched. It is read again where computing has got to.
  ring.BeginStep(3);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(3, 0), Pair(0, 4)));
  EXPECT_EQ(Take(ring, 3), 0);
  EXPECT_EQ(Take(ring, 0), 4);
  ring.BeginStep(4);
  EXPECT_TRUE(ring.Release(3)) << "of more rows, it is as it was";
}

TEST(StagingRing, NothingIsReadWhereTheCpuComputesEverything) {
  StagingRing ring(10);
  ring.AddInOrder(4, true);
  ring.AddInOrder(4, true);
  EXPECT_THAT(Next(ring), Optional(Pair(0, 0)));
  ring.SetCpuRows({.experts = 0, .in_order = 1});
  EXPECT_EQ(Next(ring), std::nullopt);
  ring.BeginStep(2);
  EXPECT_THAT(Next(ring), Optional(Pair(0, 0)));
}

TEST(StagingRing, AFailedReadIsSaidToWhoAcquiresItAndReadAgain) {
  StagingRing ring = InOrder(10, {4, 6});
  ring.StartRead();
  ring.FinishRead(absl::DataLossError("short"));
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(1, 4))) << "it is not known yet that this is in vain";
  EXPECT_TRUE(ring.CanAcquire());
  const StagingRing::Acquired failed = ring.Acquire(0);
  EXPECT_EQ(failed.state, State::kFailed);
  EXPECT_EQ(failed.status, absl::DataLossError("short"));
  EXPECT_FALSE(ring.Release(0)) << "it was not acquired";
  EXPECT_EQ(ring.Acquire(0).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(1, 4)));
  EXPECT_EQ(Take(ring, 0), 0);
}

TEST(StagingRing, IsReleasedOnce) {
  StagingRing ring = InOrder(10, {4, 6});
  EXPECT_FALSE(ring.Release(0));
  ReadAll(ring);
  EXPECT_FALSE(ring.Release(0)) << "read ahead, and not acquired";
  Take(ring, 0);
  EXPECT_FALSE(ring.Release(1));
  EXPECT_TRUE(ring.Release(0));
  EXPECT_FALSE(ring.Release(0));
}

TEST(StagingRing, WhatIsReleasedMakesRoomBehindTheOldestToo) {
  StagingRing ring = InOrder(10, {5, 5, 5});
  ReadAll(ring);
  Take(ring, 0);
  Take(ring, 1);
  ring.Release(1);
  EXPECT_THAT(Next(ring), Optional(Pair(2, 5)));
}

// An expert's first weight is acquired, and what was prefetched after it turns out to be another expert's.
TEST(StagingRing, WhatIsReadInVainBehindAnAcquiredWeightMakesRoom) {
  StagingRing ring(8);
  for (int expert = 0; expert < 2; ++expert) {
    ring.AddExpert(/*layer=*/0, 4, /*in_cpu_memory=*/false);
    ring.AddExpert(/*layer=*/0, 4, /*in_cpu_memory=*/false);
  }
  ring.Expect({{0, 1}, {3, 1}});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(3, 4)));
  EXPECT_EQ(Take(ring, 0), 0);
  EXPECT_EQ(ring.Acquire(1).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(1, 4)));
  EXPECT_EQ(Take(ring, 1), 4);
}

TEST(StagingRing, AStepThatFailsReleasesAll) {
  StagingRing ring = InOrder(12, {4, 4, 4, 5});
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(1, 4), Pair(2, 8)));
  Take(ring, 0);
  ring.Release(0);
  Take(ring, 1);
  EXPECT_THAT(ring.ReleaseAll(), ElementsAre(1));
  EXPECT_THAT(ring.ReleaseAll(), IsEmpty());
  EXPECT_FALSE(ring.Release(1));
  EXPECT_FALSE(ring.CanAcquire()) << "what was read ahead is dropped";
  EXPECT_EQ(ring.Acquire(0).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0), Pair(1, 4), Pair(2, 8)));
  EXPECT_EQ(Take(ring, 0), 0);
}

TEST(StagingRing, AStepThatFailsExpectsNothing) {
  StagingRing ring = WithExperts(12);
  ring.Expect({{1, 1}, {2, 1}});
  ring.StartRead();
  EXPECT_THAT(ring.ReleaseAll(), IsEmpty());
  EXPECT_EQ(Next(ring), std::nullopt) << "the read is still under way";
  ring.FinishRead(absl::OkStatus());
  EXPECT_EQ(Next(ring), std::nullopt);
  EXPECT_EQ(ring.Acquire(0).state, State::kWait);
  EXPECT_THAT(ReadAll(ring), ElementsAre(Pair(0, 0)));
}

TEST(StagingRingDeathTest, WhatFitsNowhereIsRefused) {
  StagingRing ring = InOrder(10, {11});
  EXPECT_DEATH(ring.Next(), "a weight of 11 bytes in a staging buffer of 10");
}

TEST(StagingRingDeathTest, ReadsStartWhereNextSaysAndEndOnce) {
  StagingRing ring = InOrder(10, {4});
  EXPECT_DEATH(ring.FinishRead(absl::OkStatus()), "no read is under way");
  ring.StartRead();
  EXPECT_DEATH(ring.StartRead(), "nothing can be read");
}

}  // namespace
}  // namespace causeway
