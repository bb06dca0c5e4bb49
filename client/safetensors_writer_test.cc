#include "client/safetensors_writer.h"

#include <cstring>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "client/read_file.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

const std::vector<SafetensorsWriter::Tensor> kTensors = {{"ids", "I64", {3}}, {"rows", "F32", {3, 2}}};

TEST(SafetensorsWriter, WritesWhatReadersExpect) {
  const std::string path = ::testing::TempDir() + "writer_test.safetensors";
  std::filesystem::remove(path);
  auto writer = SafetensorsWriter::Create(path, kTensors, {{"model", "m"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::string data = "the ids, 24 bytes of themthe rows, 24 bytes as well";
  ASSERT_TRUE((*writer)->Append(data.substr(0, 30)).ok());
  EXPECT_FALSE(std::filesystem::exists(path));  // not before the file is whole
  EXPECT_THAT((*writer)->Finish().message(), HasSubstr("18 bytes of its tensors are missing"));
  ASSERT_TRUE((*writer)->Append(data.substr(30, 18)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());

  const std::string file = ReadFile(path).value();
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  const nlohmann::json header = nlohmann::json::parse(file.substr(8, length));
  EXPECT_EQ(header.at("__metadata__"), nlohmann::json({{"model", "m"}}));
  EXPECT_EQ(header.at("ids"), nlohmann::json({{"dtype", "I64"}, {"shape", {3}}, {"data_offsets", {0, 24}}}));
  EXPECT_EQ(header.at("rows"), nlohmann::json({{"dtype", "F32"}, {"shape", {3, 2}}, {"data_offsets", {24, 48}}}));
  EXPECT_EQ(file.substr(8 + length), data.substr(0, 48));
}

// A rename would put a file in their place.
TEST(SafetensorsWriter, FoldersAndDevicesAreRefused) {
  for (const std::string path : {std::string("/dev/null"), ::testing::TempDir()}) {
    const auto writer = SafetensorsWriter::Create(path, kTensors, {});
    EXPECT_EQ(writer.status().code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(writer.status().message(), HasSubstr("expected a file's name"));
    EXPECT_FALSE(std::filesystem::is_regular_file(path));
  }
}

TEST(SafetensorsWriter, LeavesNothingUnfinished) {
  const std::string path = ::testing::TempDir() + "writer_unfinished.safetensors";
  {
    auto writer = SafetensorsWriter::Create(path, kTensors, {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_TRUE(std::filesystem::exists(path + ".partial"));
    EXPECT_THAT((*writer)->Append(std::string(49, 'x')).message(), HasSubstr("1 bytes more than its tensors have"));
  }
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  EXPECT_FALSE(std::filesystem::exists(path));
  const auto nowhere = SafetensorsWriter::Create("/nonexistent/x.safetensors", kTensors, {});
  EXPECT_EQ(nowhere.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(nowhere.status().message(), HasSubstr("cannot write /nonexistent/x.safetensors.partial: No such file"));
}

}  // namespace
}  // namespace causeway
