#include "engine/router.h"

#include <numeric>

#include <gtest/gtest.h>

namespace causeway {
namespace {

std::vector<int32_t> Prompt(int32_t first, int length) {
  std::vector<int32_t> tokens(length);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

class RouterTest : public ::testing::Test {
 protected:
  int Send(const std::vector<int32_t>& prompt, int64_t tokens, const std::string& salt = "") {
    const Router::Request request{.handle = next_++, .prompt = prompt, .salt = salt, .tokens = tokens};
    const int loop = router_.Choose(request, open_);
    router_.Started(request, loop);
    return loop;
  }

  Router router_{/*loops=*/3, /*blocks=*/100};
  std::vector<bool> open_ = {true, true, true};
  uint64_t next_ = 1;
};

TEST_F(RouterTest, RequestsSpreadByTheTokensThatAreLeft) {
  EXPECT_EQ(Send(Prompt(0, 8), 100), 0);
  EXPECT_EQ(Send(Prompt(0, 8), 10), 1);
  EXPECT_EQ(Send(Prompt(0, 8), 20), 2);
  EXPECT_EQ(Send(Prompt(0, 8), 15), 1);
  EXPECT_EQ(Send(Prompt(0, 8), 15), 2);
  router_.Ended(1);
  EXPECT_EQ(Send(Prompt(0, 8), 15), 0);
}

TEST_F(RouterTest, APrefixDrawsWhereItIsUnlessTheOthersHaveSoMuchLess) {
  const std::vector<int32_t> shared = Prompt(1000, 64);
  EXPECT_EQ(Send(Prompt(0, 8), 10), 0);
  EXPECT_EQ(Send(shared, 70), 1);
  // Loop 1 has 70 tokens left, and 64 of the prompt: 6 more than nothing, and fewer than loop 0's 10; loop 2 has none.
  EXPECT_EQ(Send(shared, 1), 2);
  for (uint64_t handle : {1, 2, 3}) router_.Ended(handle);
  EXPECT_EQ(Send(shared, 100), 1) << "the lowest of those that have it";
  EXPECT_EQ(Send(shared, 100), 2) << "which has it, too, and nothing else to do";
  EXPECT_EQ(Send(shared, 1, "another salt"), 0);
}

TEST_F(RouterTest, OnlyOpenLoopsAreChosen) {
  open_ = {false, false, true};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Send(Prompt(0, 8), 1000), 2);
}

TEST_F(RouterTest, WhatItRemembersIsBounded) {
  const std::vector<int32_t> first = Prompt(0, 32);
  open_ = {false, true, false};
  Send(first, 0);
  open_ = {true, true, true};
  EXPECT_EQ(Send(first, 0), 1);
  for (int i = 1; i < 40; ++i) Send(Prompt(1000 * i, 160), 0);  // ten blocks each
  EXPECT_EQ(Send(first, 0), 0) << "forgotten";
}

}  // namespace
}  // namespace causeway
