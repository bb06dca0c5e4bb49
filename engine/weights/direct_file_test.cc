#include "engine/weights/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

constexpr int64_t kBlock = DirectFile::kAlignment;

class DirectFileTest : public ::testing::Test {
 protected:
  DirectFileTest() : path_(absl::StrCat(::testing::TempDir(), "/direct-", getpid())), room_(8 * kBlock) {
    std::mt19937 random(1);
    for (int64_t i = 0; i < 3 * kBlock + 100; ++i) text_.push_back(static_cast<char>(random()));
    std::ofstream(path_, std::ios::binary) << text_;
  }
  ~DirectFileTest() override { std::filesystem::remove(path_); }

  absl::Span<char> Room() { return {DirectFile::Aligned(room_.data()), static_cast<size_t>(7 * kBlock)}; }

  const std::string path_;
  std::string text_;
  std::vector<char> room_;
};

TEST_F(DirectFileTest, ReadsFromAnywhere) {
  const auto file = DirectFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  for (const int64_t offset : {int64_t{0}, int64_t{1}, kBlock - 1, kBlock, kBlock + 7, 3 * kBlock, 3 * kBlock + 99}) {
    for (const int64_t bytes : {int64_t{1}, int64_t{100}, kBlock - 1, kBlock, kBlock + 2, 2 * kBlock + 100}) {
      if (offset + bytes > static_cast<int64_t>(text_.size())) continue;
      const auto read = file->ReadAround(offset, bytes, Room());
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_EQ(std::string(*read, bytes), text_.substr(offset, bytes)) << bytes << " at " << offset;
    }
  }
}

TEST_F(DirectFileTest, TheEndIsSaid) {
  const auto file = DirectFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  const int64_t size = static_cast<int64_t>(text_.size());
  for (const int64_t offset : {size - 1, size, size + kBlock}) {
    const absl::Status status = file->ReadAround(offset, 2, Room()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << offset;
    EXPECT_THAT(status.message(), ::testing::HasSubstr(path_));
    EXPECT_THAT(status.message(), ::testing::HasSubstr("shorter"));
  }
  std::filesystem::resize_file(path_, kBlock);
  EXPECT_TRUE(file->ReadAround(0, kBlock, Room()).ok());
  EXPECT_FALSE(file->ReadAround(kBlock - 1, 2, Room()).ok());
  EXPECT_FALSE(file->Read(kBlock, Room().first(kBlock)).ok());
}

// The file that was opened, whatever has its name now, as long as nobody writes to it.
TEST_F(DirectFileTest, AReopenedFileIsTheOldOneUnchanged) {
  const int descriptor = ::open(path_.c_str(), O_RDONLY);
  const std::string other = path_ + ".other";
  std::ofstream(other) << std::string(text_.size(), 'o');
  std::filesystem::rename(path_, path_ + ".moved");
  std::filesystem::rename(other, path_);
  const auto file = DirectFile::Reopen(descriptor, path_);
  ::close(descriptor);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto read = file->ReadAround(kBlock - 5, 100, Room());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(std::string(*read, 100), text_.substr(kBlock - 5, 100));
  std::fstream(path_ + ".moved", std::ios::in | std::ios::out | std::ios::binary) << "x";
  const absl::Status status = file->ReadAround(2 * kBlock, 100, Room()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), ::testing::AllOf(::testing::HasSubstr(path_), ::testing::HasSubstr("written to")));
  std::filesystem::remove(path_ + ".moved");
}

TEST(DirectFileOpenTest, WhatIsNotThereIsNamed) {
  EXPECT_THAT(DirectFile::Open("/nowhere/file").status().ToString(),
              ::testing::AllOf(::testing::HasSubstr("NOT_FOUND"), ::testing::HasSubstr("/nowhere/file")));
}

}  // namespace
}  // namespace causeway
