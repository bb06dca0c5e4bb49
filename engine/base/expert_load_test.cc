#include "engine/base/expert_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using ::testing::ElementsAre;

TEST(ExpertCounterTest, AddsUpStepsAndTheirBusiestExperts) {
  ExpertCounter counter(4, 100);
  counter.Add({0, 3, 1, 0});
  counter.Add({5, 0, 0, 0});
  counter.Add({0, 0, 0, 0});  // no tokens: no step
  const ExpertLoad load = counter.Read();
  EXPECT_EQ(load.expert_bytes, 100);
  EXPECT_EQ(load.steps, 2);
  EXPECT_EQ(load.busy, 3);
  EXPECT_EQ(load.busiest, 8);
  EXPECT_THAT(load.tokens, ElementsAre(5, 3, 1, 0));
  counter.Clear();
  EXPECT_EQ(counter.Read().steps + counter.Read().busy + counter.Read().busiest, 0);
  EXPECT_THAT(counter.Read().tokens, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace causeway
