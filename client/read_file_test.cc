#include "client/read_file.h"

#include <fstream>

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(ReadFileTest, ReadsAllOrSaysWhyNot) {
  const std::string path = testing::TempDir() + "read_file";
  for (const std::string& text : {std::string(), std::string("a\0b\r\n", 5), std::string(200'000, 'x')}) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
    EXPECT_EQ(*ReadFile(path), text);
  }
  const absl::Status folder = ReadFile(testing::TempDir()).status();
  EXPECT_EQ(folder.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(folder.message(), "\"" + testing::TempDir() + "\" cannot be read: Is a directory");
  EXPECT_EQ(ReadFile("").status().message(), "\"\" cannot be read: No such file or directory");
}

}  // namespace
}  // namespace causeway
