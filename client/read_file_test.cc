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

TEST(ReadFileTest, AByteOrderMarkIsNoPartOfTheText) {
  const std::string path = testing::TempDir() + "read_file_mark";
  std::ofstream(path, std::ios::binary | std::ios::trunc) << "\xef\xbb\xbf{\"a\": \"\xef\xbb\xbf\"}";
  EXPECT_EQ(*ReadFile(path), "{\"a\": \"\xef\xbb\xbf\"}");
  EXPECT_EQ(WithoutByteOrderMark("\xef\xbb"), "\xef\xbb");
}

TEST(ReadFileTest, OneNewlineIsTakenOff) {
  EXPECT_EQ(WithoutLastNewline("a\n"), "a");
  EXPECT_EQ(WithoutLastNewline("a\r\n"), "a");
  EXPECT_EQ(WithoutLastNewline("a\n\n"), "a\n");
  EXPECT_EQ(WithoutLastNewline("a\r"), "a\r");
  EXPECT_EQ(WithoutLastNewline("\n"), "");
  EXPECT_EQ(WithoutLastNewline(""), "");
}

}  // namespace
}  // namespace causeway
