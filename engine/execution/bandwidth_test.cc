#include "engine/execution/bandwidth.h"

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(BandwidthTest, IsWhatAMemoryCanHave) {
  const double bytes_per_second = MeasureReadBandwidth(2);
  EXPECT_GT(bytes_per_second, 5e8);
  EXPECT_LT(bytes_per_second, 1e13);
}

}  // namespace
}  // namespace causeway
