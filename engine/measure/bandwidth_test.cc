#include "engine/measure/bandwidth.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"
#include "engine/measure/file_bandwidth.h"

namespace causeway {
namespace {

TEST(BandwidthTest, IsWhatAMemoryCanHave) {
  const double bytes_per_second = MeasureReadBandwidth(2);
  EXPECT_GT(bytes_per_second, 5e8);
  EXPECT_LT(bytes_per_second, 1e13);
}

TEST(FolderBandwidthTest, IsMeasuredAndLeavesNothingBehind) {
  const ::causeway::testing::TestFolder folder;
  const absl::StatusOr<FolderBandwidth> measured = MeasureFolderBandwidth(folder.path(), int64_t{8} << 20);
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_GT(measured->write, 1e5);
  EXPECT_GT(measured->read, 1e5);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(FolderBandwidthTest, AFolderThatTakesNoFileIsNamed) {
  const ::causeway::testing::TestFolder folder;
  const absl::Status missing = MeasureFolderBandwidth(folder / "missing", int64_t{4} << 20).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), ::testing::HasSubstr(folder / "missing"));
  EXPECT_FALSE(MeasureFolderBandwidth("/proc/self", int64_t{4} << 20).ok());  // not even root makes files there
  if (std::filesystem::is_directory("/dev/shm")) {
    // This folder is in memory and has no disk to ask; it is measured all the same.
    EXPECT_TRUE(MeasureFolderBandwidth("/dev/shm", int64_t{4} << 20).ok());
  }
}

}  // namespace
}  // namespace causeway
