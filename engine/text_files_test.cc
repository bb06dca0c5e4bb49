#include "engine/text_files.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

namespace causeway {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TextFilesTest : public ::testing::Test {
 protected:
  TextFilesTest()
      : folder_(fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~TextFilesTest() override { fs::remove_all(folder_); }

  const fs::path folder_;
};

TEST_F(TextFilesTest, AModelsFilesAreRead) {
  TextFiles files(CAUSEWAY_SOURCE_DIR "/models/kjv");
  const absl::StatusOr<TextFiles::Read> read = files.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_NE(read->tokenizer, nullptr);
  EXPECT_GT(read->tokenizer->vocab_size(), 1000);
  EXPECT_GT(read->seconds, 0);
  EXPECT_TRUE(files.Check().ok());
}

TEST_F(TextFilesTest, AFolderWithoutHasNone) {
  TextFiles files(folder_.string());
  const absl::StatusOr<TextFiles::Read> read = files.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->tokenizer, nullptr);
  EXPECT_EQ(read->chat_template, nullptr);
}

TEST_F(TextFilesTest, ABrokenTokenizerIsAnErrorForWhoLoadsBesideIt) {
  std::ofstream(folder_ / "tokenizer.json") << "{";
  TextFiles files(folder_.string());
  const absl::Status status = files.Take().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
  EXPECT_EQ(files.Check(), status);
}

TEST_F(TextFilesTest, NobodyHasToTakeThem) { TextFiles files(CAUSEWAY_SOURCE_DIR "/models/kjv"); }

}  // namespace
}  // namespace causeway
