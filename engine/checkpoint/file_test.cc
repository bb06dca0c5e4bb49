#include "engine/checkpoint/file.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::Message;
using ::causeway::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A file of bytes 0, 1, 2, ... Its reads fail, are interrupted and fall short as a script says.
struct Fault {
  ssize_t result;  // bytes to give at most, or -1
  int error = 0;
};
std::vector<Fault>* faults;
std::vector<std::pair<size_t, off_t>>* calls;

ssize_t FaultyPread(int, void* destination, size_t bytes, off_t offset) {
  calls->emplace_back(bytes, offset);
  if (faults->empty()) return -2;
  const Fault fault = faults->front();
  faults->erase(faults->begin());
  if (fault.result < 0) {
    errno = fault.error;
    return -1;
  }
  const size_t n = std::min<size_t>(bytes, fault.result);
  for (size_t i = 0; i < n; ++i) static_cast<char*>(destination)[i] = static_cast<char>(offset + i);
  return static_cast<ssize_t>(n);
}

class ReadExactlyTest : public ::testing::Test {
 protected:
  ReadExactlyTest() {
    faults = &faults_;
    calls = &calls_;
  }
  std::vector<Fault> faults_;
  std::vector<std::pair<size_t, off_t>> calls_;
};

TEST_F(ReadExactlyTest, GoesOnAfterShortAndInterruptedReads) {
  faults_ = {{3}, {-1, EINTR}, {1}, {-1, EINTR}, {-1, EINTR}, {100}};
  std::string bytes(10, '\0');
  ASSERT_TRUE(ReadExactly(0, 5, absl::MakeSpan(&bytes[0], bytes.size()), "f", FaultyPread).ok());
  for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], static_cast<char>(5 + i));
  EXPECT_EQ(calls_.back(), (std::pair<size_t, off_t>(6, 9)));
}

TEST_F(ReadExactlyTest, AFileThatEndsEarlyIsDataLoss) {
  faults_ = {{4}, {0}};
  std::string bytes(10, '\0');
  const absl::Status status =
      ReadExactly(0, 100, absl::MakeSpan(&bytes[0], bytes.size()), "a.safetensors: tensor x", FaultyPread);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("a.safetensors: tensor x"), HasSubstr("ends at byte 104"),
                                     HasSubstr("expected 6 more bytes")));
}

TEST_F(ReadExactlyTest, AFailingDeviceIsDataLoss) {
  faults_ = {{4}, {-1, EIO}};
  std::string bytes(10, '\0');
  const absl::Status status = ReadExactly(0, 0, absl::MakeSpan(&bytes[0], bytes.size()), "f", FaultyPread);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("byte 4"), HasSubstr("Input/output error")));
}

TEST(FileTest, APipeIsRefusedWithoutWaiting) {
  TestFolder folder;
  ASSERT_EQ(::mkfifo((folder / "model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(Message(File::Open(folder / "model.safetensors").status()), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace causeway
