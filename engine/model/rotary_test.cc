#include "engine/model/rotary.h"

#include <cmath>

#include <gtest/gtest.h>

#include "engine/architecture/rope.h"

namespace causeway {
namespace {

RopeSpec Plain() {
  RopeSpec rope{.dim = 8, .theta = 10000};
  for (int i = 0; i < 4; ++i) rope.inv_freq.push_back(std::pow(10000.0, -2.0 * i / 8));
  return rope;
}

TEST(RotaryTest, TablesHoldTheAnglesOfEachPosition) {
  RopeSpec rope = Plain();
  rope.attention_factor = 1.5;
  const RotaryTables tables = MakeRotaryTables(rope, 300);
  ASSERT_EQ(tables.cos.sizes(), (at::IntArrayRef{300, 4}));
  for (int p : {0, 1, 17, 299}) {
    for (int i = 0; i < 4; ++i) {
      EXPECT_NEAR(tables.cos[p][i].item<float>(), 1.5 * std::cos(p * rope.inv_freq[i]), 3e-5) << p << " " << i;
      EXPECT_NEAR(tables.sin[p][i].item<float>(), 1.5 * std::sin(p * rope.inv_freq[i]), 3e-5) << p << " " << i;
    }
  }
}

TEST(RotaryTest, NoRotaryEmbeddingMeansNoTables) { EXPECT_FALSE(MakeRotaryTables(RopeSpec(), 10).cos.defined()); }

TEST(RotaryTest, DynamicScalingDependsOnThePositionAlone) {
  RopeSpec rope = Plain();
  rope.dynamic_factor = 2;
  rope.original = 32;
  const RotaryTables dynamic = MakeRotaryTables(rope, 100), plain = MakeRotaryTables(Plain(), 100);
  // Up to the original context nothing changes, however long the table is.
  EXPECT_TRUE(dynamic.cos.narrow(0, 0, 32).equal(plain.cos.narrow(0, 0, 32)));
  EXPECT_FALSE(dynamic.cos[32].equal(plain.cos[32]));
  const std::vector<double> frequencies = InvFreqAt(rope, 91);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(dynamic.sin[90][i].item<float>(), std::sin(90 * frequencies[i]), 1e-5);
}

TEST(RotaryTest, LongropeTurnsPositionsBeyondTheOriginalContextByTheLongFactors) {
  RopeSpec rope = Plain();
  rope.original = 32;
  rope.attention_factor = 1.2;
  for (const double frequency : rope.inv_freq) rope.long_inv_freq.push_back(frequency / 3);
  const RotaryTables tables = MakeRotaryTables(rope, 100);
  for (int p : {0, 31, 32, 33, 99}) {
    for (int i = 0; i < 4; ++i)
      EXPECT_NEAR(tables.sin[p][i].item<float>(), 1.2 * std::sin(p * rope.inv_freq[i] / (p < 32 ? 1 : 3)), 2e-5)
          << p << " " << i;
  }
}

}  // namespace
}  // namespace causeway
