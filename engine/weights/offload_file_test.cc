#include "engine/weights/offload_file.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(OffloadFileTest, AFolderThatIsNoneIsNamed) {
  EXPECT_THAT(OffloadFile::Open("/nowhere/weights", "a", 4096, true).status().ToString(),
              AllOf(HasSubstr("NOT_FOUND"), HasSubstr("/nowhere/weights")));
  const TemporaryFolder folder("file");
  std::ofstream(folder.path() + "/plain") << "text";
  EXPECT_THAT(OffloadFile::Open(folder.path() + "/plain", "a", 4096, true).status().message(),
              HasSubstr("plain is not a folder"));
  EXPECT_THAT(OffloadFile::Open("/proc", "a", 4096, true).status().message(), HasSubstr("/proc"));
}

TEST(OffloadFileTest, AFullDiskIsSaidBeforeAnythingIsWritten) {
  const TemporaryFolder folder("full");
  const absl::Status status = OffloadFile::Open(folder.path(), "a", int64_t{1} << 55, true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(folder.path()), HasSubstr("free"), HasSubstr("offload_folder")));
  EXPECT_TRUE(folder.files().empty());
}

TEST(OffloadFileTest, WhatIsNotFinishedIsGone) {
  const TemporaryFolder folder("unfinished");
  const std::string bytes(4096, 'x');
  {
    auto file = OffloadFile::Open(folder.path(), "a", 8192, true);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_FALSE((*file)->complete());
    EXPECT_TRUE((*file)->Write(0, bytes).ok());
    EXPECT_EQ(folder.files().size(), 1u);
  }
  EXPECT_TRUE(folder.files().empty());
}

TEST(OffloadFileTest, WhatAKilledStartLeftIsRemoved) {
  const TemporaryFolder folder("killed");
  auto writing = OffloadFile::Open(folder.path(), "a", 8192, true);
  ASSERT_TRUE(writing.ok()) << writing.status();
  const std::string left = (*writing)->path() + ".abcdef", others = folder.path() + "/notes.abcdef";
  std::ofstream(left) << "half";
  std::ofstream(others) << "somebody's";
  const auto second = OffloadFile::Open(folder.path(), "a", 8192, true);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(others));
  EXPECT_EQ(folder.files().size(), 3u) << "both that are being written, and what is not ours";
}

TEST(OffloadFileTest, AnotherFileOfTheNameIsReplaced) {
  const TemporaryFolder folder("other");
  const std::string bytes(4096, 'x');
  for (const bool spoiled : {false, true}) {
    auto file = OffloadFile::Open(folder.path(), "a", 4096, true);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_FALSE((*file)->complete()) << spoiled;
    EXPECT_TRUE((*file)->Write(0, bytes).ok());
    EXPECT_TRUE((*file)->Finish().ok());
    EXPECT_TRUE(OffloadFile::Open(folder.path(), "a", 4096, true).value()->complete());
    std::fstream((*file)->path(), std::ios::in | std::ios::out | std::ios::binary) << "causeway packed weights 9";
  }
}

constexpr int64_t kBlock = OffloadFile::kAlignment, kPiece = PieceChecksums::kPieceBytes;

// Two weights, the second of more than one piece.
class FilledOffloadFileTest : public ::testing::Test {
 protected:
  FilledOffloadFileTest() : folder_("filled"), memory_(kSecond + kBlock) {
    std::unique_ptr<OffloadFile> file = Open();
    EXPECT_FALSE(file->complete());
    EXPECT_TRUE(file->Write(0, std::string(kBlock, 'a')).ok());
    EXPECT_TRUE(file->Write(kBlock, std::string(kSecond, 'b')).ok());
    EXPECT_TRUE(file->Finish().ok());
    path_ = file->path();
  }

  std::unique_ptr<OffloadFile> Open() {
    auto file = OffloadFile::Open(folder_.path(), "two weights", kBlock + kSecond, true);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  absl::Status Read(const OffloadFile& file, int64_t offset, int64_t bytes) {
    return file.Read(offset, {DirectFile::Aligned(memory_.data()), static_cast<size_t>(bytes)});
  }
  // Writes over one byte of the data, at a time that differs from that of any other write.
  void Spoil(int64_t at, char byte) {
    std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary).seekp(kBlock + at).put(byte);
    fs::last_write_time(path_, fs::last_write_time(path_) + std::chrono::seconds(++spoiled_));
  }

  static constexpr int64_t kSecond = kPiece + kBlock;
  const TemporaryFolder folder_;
  std::vector<char> memory_;
  std::string path_;
  int spoiled_ = 0;
};

TEST_F(FilledOffloadFileTest, IsReadInWholeOrInPieces) {
  const auto file = Open();
  ASSERT_TRUE(file->complete());
  EXPECT_TRUE(Read(*file, 0, kBlock).ok());
  EXPECT_TRUE(Read(*file, kBlock, kSecond).ok());
  EXPECT_EQ(DirectFile::Aligned(memory_.data())[kSecond - 1], 'b');
  EXPECT_TRUE(Read(*file, kBlock + kPiece, kBlock).ok());
  EXPECT_EQ(Read(*file, 2 * kBlock, kBlock).code(), absl::StatusCode::kInternal) << "no piece starts there";
}

TEST_F(FilledOffloadFileTest, ByteThatChangedIsFoundAndTheFileWrittenAnew) {
  for (const int64_t at : {int64_t{0}, kBlock, kBlock + kPiece + 17}) {
    Spoil(at, 'x');
    const auto file = Open();
    ASSERT_TRUE(file->complete());
    EXPECT_EQ(Read(*file, 0, kBlock).ok(), at != 0);
    EXPECT_EQ(Read(*file, kBlock, kSecond).ok(), at == 0);
    const absl::Status status = at == 0 ? Read(*file, 0, kBlock) : Read(*file, kBlock, kSecond);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(status.message(), AllOf(HasSubstr(path_), HasSubstr("not those that were written")));
    const auto anew = Open();
    ASSERT_FALSE(anew->complete()) << "the bad one is gone";
    EXPECT_TRUE(anew->Write(0, std::string(kBlock, 'a')).ok());
    EXPECT_TRUE(anew->Write(kBlock, std::string(kSecond, 'b')).ok());
    EXPECT_TRUE(anew->Finish().ok());
  }
}

TEST_F(FilledOffloadFileTest, PieceThatWasRightIsComparedAgainAfterAWrite) {
  const auto file = Open();
  EXPECT_TRUE(Read(*file, kBlock, kSecond).ok());
  fs::create_hard_link(path_, path_ + ".kept");
  path_ += ".kept";  // the other name will be gone
  Spoil(kBlock + 5, 'x');
  EXPECT_EQ(Read(*file, kBlock, kSecond).code(), absl::StatusCode::kDataLoss);
  Spoil(kBlock + 5, 'b');
  EXPECT_TRUE(Read(*file, kBlock, kSecond).ok());
}

TEST_F(FilledOffloadFileTest, ChecksumsThatAreNotWholeMakeItAnotherFile) {
  fs::resize_file(path_, fs::file_size(path_) - 1);
  EXPECT_FALSE(Open()->complete());
}

TEST_F(FilledOffloadFileTest, ChecksumsThatChangedMakeItAnotherFile) {
  Spoil(kBlock + kSecond + 9, 'x');
  EXPECT_FALSE(Open()->complete());
}

}  // namespace
}  // namespace causeway
