#include "engine/text_files.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

// The model can do without: it serves prompts, and says why it refuses chats.
TEST_F(TextFilesTest, ATemplateThatDoesNotCompileIsWarnedOf) {
  std::ofstream(folder_ / "chat_template.jinja") << "x\n{% if %}";
  TextFiles files(folder_.string());
  const absl::StatusOr<TextFiles::Read> read = files.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->chat_template, nullptr);
  EXPECT_THAT(read->chat_template_error, HasSubstr("chat template line 2"));
  EXPECT_THAT(read->warnings, ElementsAre(HasSubstr("--chat-template FILE")));
}

TEST_F(TextFilesTest, AFileTakesTheTemplatesPlace) {
  std::ofstream(folder_ / "chat_template.jinja") << "{% if %}";
  std::ofstream(folder_ / "other.jinja") << "{{ messages[0].content }}!";
  TextFiles files(folder_.string(), (folder_ / "other.jinja").string());
  const absl::StatusOr<TextFiles::Read> read = files.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->warnings, IsEmpty());
  EXPECT_EQ(read->chat_template->Render({{"user", "ahoy"}}, true).value(), "ahoy!");
}

// What was asked for is an error where it cannot be had.
TEST_F(TextFilesTest, AFileThatIsNoTemplateIsAnError) {
  std::ofstream(folder_ / "broken.jinja") << "{% if %}";
  for (const char* name : {"broken.jinja", "nowhere.jinja"}) {
    TextFiles files(folder_.string(), (folder_ / name).string());
    const absl::Status status = files.Take().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST_F(TextFilesTest, ATokenizerLargerThanTheVocabularyIsWarnedOf) {
  TextFiles files(CAUSEWAY_SOURCE_DIR "/models/kjv");
  const absl::StatusOr<TextFiles::Read> read = files.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  const int64_t ids = read->tokenizer->id_bound();
  EXPECT_EQ(VocabularyWarning(*read->tokenizer, ids), "");
  EXPECT_EQ(VocabularyWarning(*read->tokenizer, ids + 100), "");
  EXPECT_THAT(VocabularyWarning(*read->tokenizer, ids - 1), HasSubstr(absl::StrCat("ids up to ", ids - 1)));
}

TEST_F(TextFilesTest, NobodyHasToTakeThem) { TextFiles files(CAUSEWAY_SOURCE_DIR "/models/kjv"); }

}  // namespace
}  // namespace causeway
