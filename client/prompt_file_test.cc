#include "client/prompt_file.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PromptFileTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = testing::TempDir() + "prompt_file_" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
};

TEST_F(PromptFileTest, ReadsPromptsAndKeepsLineNumbers) {
  const auto prompts = ReadPrompts(Write("good", "{\"prompt\": \"a\", \"max_length\": 9}\n\n{\"prompt\": \"b\", \"max_tokens\": 3}\n{\"prompt\":\"c\"}"));
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  ASSERT_EQ(prompts->size(), 3u);
  EXPECT_EQ((*prompts)[0].max_length, 9);
  EXPECT_EQ((*prompts)[1].line, 3);
  EXPECT_EQ((*prompts)[1].max_tokens, 3);
  EXPECT_EQ((*prompts)[2].max_length, std::nullopt);
}

TEST_F(PromptFileTest, NamesEveryBadLine) {
  const auto prompts = ReadPrompts(Write("bad", "{\"prompt\": 3}\n{\"promt\": \"x\"}\nnope\n{\"prompt\":\"x\",\"max_length\":0}\n"
                                                "{\"prompt\":\"x\",\"max_length\":2,\"max_tokens\":2}\n[]\n{\"prompt\":\"\"}\n{\"prompt\":\"fine\"}\n"));
  ASSERT_FALSE(prompts.ok());
  const std::string message(prompts.status().message());
  EXPECT_THAT(message, HasSubstr("7 bad lines"));
  EXPECT_THAT(message, HasSubstr(":1: \"prompt\" is a number, expected a string"));
  EXPECT_THAT(message, HasSubstr(":2: unknown key \"promt\""));
  EXPECT_THAT(message, HasSubstr(":3: not valid JSON"));
  EXPECT_THAT(message, HasSubstr(":4: \"max_length\" is 0"));
  EXPECT_THAT(message, HasSubstr(":5: both"));
}

TEST_F(PromptFileTest, RefusesAFileWithoutPrompts) {
  EXPECT_THAT(std::string(ReadPrompts(Write("empty", "\n \n")).status().message()), HasSubstr("no prompts"));
  EXPECT_EQ(ReadPrompts("/nonexistent/prompts.jsonl").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(PromptFileTest, ResumesAfterACutLineAndRetriesErrors) {
  const auto prompts = ReadPrompts(Write("resume", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n{\"prompt\":\"c\"}\n"));
  const std::string whole = "{\"line\":1,\"prompt\":\"a\",\"text\":\"x\"}\n{\"line\":2,\"prompt\":\"b\",\"error\":\"y\"}\n";
  const std::string path = Write("results", whole + "{\"line\":3,\"pro");
  const auto done = ResumeResults(path, *prompts);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_THAT(*done, ElementsAre(1));
  EXPECT_EQ(std::filesystem::file_size(path), whole.size());
}

TEST_F(PromptFileTest, RefusesResultsOfOtherPrompts) {
  const auto prompts = ReadPrompts(Write("other", "{\"prompt\":\"a\"}\n"));
  EXPECT_FALSE(ResumeResults(Write("other_results", "{\"line\":1,\"prompt\":\"z\",\"text\":\"x\"}\n"), *prompts).ok());
  EXPECT_FALSE(ResumeResults(Write("no_results", "hello\n"), *prompts).ok());
  EXPECT_TRUE(ResumeResults("/nonexistent/results.jsonl", *prompts)->empty());
}

}  // namespace
}  // namespace causeway
