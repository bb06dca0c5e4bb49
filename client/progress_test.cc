#include "client/progress.h"

#include <cmath>

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(ProgressTest, BarsFillInEighths) {
  EXPECT_EQ(Bar(0, 4), "░░░░");
  EXPECT_EQ(Bar(1, 4), "████");
  EXPECT_EQ(Bar(0.5, 4), "██░░");
  EXPECT_EQ(Bar(0.125, 2), "▎░");
  EXPECT_EQ(Bar(7, 2), "██");
  EXPECT_EQ(Bar(std::nan(""), 2), "░░");
}

TEST(ProgressTest, UnitsForPeople) {
  EXPECT_EQ(Bytes(17), "17 B");
  EXPECT_EQ(Bytes(1536), "1.5 KiB");
  EXPECT_EQ(Bytes(int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(Duration(4.21), "4.2 s");
  EXPECT_EQ(Duration(185), "3 min 05 s");
  EXPECT_EQ(Duration(7440), "2 h 04 min");
}

TEST(ProgressTest, OffATerminalTheEndIsSaidOnce) {
  testing::internal::CaptureStderr();
  {
    Progress progress("prompts", 1);
    progress.Add(1);
    progress.Finish();
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(said.find("1/1 prompts"), said.rfind("1/1 prompts")) << said;
  EXPECT_NE(said.find("1/1 prompts"), std::string::npos);
}

}  // namespace
}  // namespace causeway
