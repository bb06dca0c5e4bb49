#include "server/cluster/remote_constraint.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using State = TokenMask::State;

TEST(RemoteConstraint, MasksAreWaitedForAndTakenInOrder) {
  RemoteConstraint constraint;
  EXPECT_TRUE(constraint.Soon(0));
  std::thread stream([&] {
    for (uint32_t index = 3; index < 200; ++index) constraint.Deliver(index, State::kTokens, {index, ~index}, {});
  });
  for (uint32_t index = 3; index < 200; ++index) {
    const TokenMask mask = constraint.Await(index);
    ASSERT_EQ(mask.state, State::kTokens) << mask.status;
    ASSERT_THAT(mask.allowed, ElementsAre(index, ~index));
    constraint.Chosen(index, 1);
    ASSERT_THAT(mask.allowed, ElementsAre(index, ~index));  // until the next is asked for
  }
  stream.join();
}

TEST(RemoteConstraint, WhatIsOlderIsDropped) {
  RemoteConstraint constraint;
  for (uint32_t index = 0; index < 4; ++index) constraint.Deliver(index, State::kTokens, {index}, {});
  EXPECT_THAT(constraint.Await(1).allowed, ElementsAre(1u));
  EXPECT_THAT(constraint.Await(1).allowed, ElementsAre(1u));
  constraint.Chosen(2, 7);
  EXPECT_THAT(constraint.Await(3).allowed, ElementsAre(3u));
  constraint.Deliver(5, State::kTokens, {5}, {});
  EXPECT_EQ(constraint.Await(4).status,
            absl::InternalError("grammar: the mask of token 4 was waited for and that of token 5 came"));
}

TEST(RemoteConstraint, AMaskThatEndsTheSequenceIsThatOfLaterTokens) {
  RemoteConstraint constraint;
  constraint.Deliver(0, State::kComplete, {}, {});
  EXPECT_EQ(constraint.Await(0).state, State::kComplete);
  EXPECT_EQ(constraint.Await(1).state, State::kComplete);
  RemoteConstraint failed;
  failed.Deliver(0, State::kFailed, {}, absl::AbortedError("why"));
  EXPECT_EQ(failed.Await(0).status, absl::AbortedError("why"));
  EXPECT_EQ(failed.Await(1).status, absl::AbortedError("why"));
}

TEST(RemoteConstraint, ABrokenStreamEndsWaiting) {
  RemoteConstraint constraint;
  std::thread stream([&] { constraint.Fail(absl::UnavailableError("the leader is gone")); });
  for (int64_t index = 0; index < 2; ++index) {
    const TokenMask mask = constraint.Await(index);
    EXPECT_EQ(mask.state, State::kFailed);
    EXPECT_EQ(mask.status, absl::UnavailableError("the leader is gone"));
  }
  stream.join();
  constraint.Deliver(2, State::kTokens, {1}, {});
  EXPECT_EQ(constraint.Await(2).state, State::kFailed);
}

}  // namespace
}  // namespace causeway
