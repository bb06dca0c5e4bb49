#include "client/prompt_file.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

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
  std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
};

TEST_F(PromptFileTest, ReadsPromptsAndKeepsLineNumbers) {
  const auto prompts = ReadPrompts(Write(
      "good", "{\"prompt\": \"a\", \"max_length\": 9}\n\n{\"prompt\": \"b\", \"max_tokens\": 3}\n{\"prompt\":\"c\"}"));
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  ASSERT_EQ(prompts->size(), 3u);
  EXPECT_EQ((*prompts)[0].max_length, 9);
  EXPECT_EQ((*prompts)[1].line, 3);
  EXPECT_EQ((*prompts)[1].max_tokens, 3);
  EXPECT_EQ((*prompts)[2].max_length, std::nullopt);
}

TEST_F(PromptFileTest, KeepsIds) {
  const auto prompts = ReadPrompts(Write("ids",
                                         "\xef\xbb\xbf{\"id\": \"a-1\", \"prompt\": \"a\"}\r\n{\"prompt\": \"b\", "
                                         "\"id\": 9007199254740993}\r\n{\"prompt\": \"c\"}"));
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_EQ((*prompts)[0].id, "a-1");
  EXPECT_EQ((*prompts)[1].id.dump(), "9007199254740993");
  EXPECT_TRUE((*prompts)[2].id.is_null());
  const std::string message(ReadPrompts(Write("ids",
                                              "{\"id\": null, \"prompt\": \"a\"}\n{\"id\": 1.5, \"prompt\": \"a\"}\n"
                                              "{\"id\": 99999999999999999999, \"prompt\": \"a\"}\n"))
                                .status()
                                .message());
  EXPECT_THAT(message, HasSubstr(":1: \"id\" is null, expected a text or a whole number"));
  EXPECT_THAT(message, HasSubstr(":2: \"id\" is 1.5"));
  EXPECT_THAT(message, HasSubstr(":3: \"id\" is 1"));

  const std::string first = "{\"id\":\"a-1\",\"line\":1,\"prompt\":\"a\",\"text\":\"x\"}\n";
  EXPECT_THAT(*ResumeResults(Write("ids_results", first), *prompts), ElementsAre(1));
  for (const std::string other : {"{\"line\":1,\"prompt\":\"a\",\"text\":\"x\"}\n",
                                  "{\"id\":\"a-2\",\"line\":1,\"prompt\":\"a\",\"text\":\"x\"}\n"}) {
    EXPECT_THAT(std::string(ResumeResults(Write("ids_results", other), *prompts).status().message()),
                HasSubstr("answers other prompts"));
  }
}

TEST_F(PromptFileTest, NamesEveryBadLine) {
  const auto prompts = ReadPrompts(
      Write("bad",
            "{\"prompt\": 3}\n{\"promt\": \"x\"}\nnope\n{\"prompt\":\"x\",\"max_length\":0}\n"
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
  EXPECT_THAT(std::string(ReadPrompts("/nonexistent/prompts.jsonl").status().message()), HasSubstr("No such file"));
  EXPECT_THAT(std::string(ReadPrompts(testing::TempDir()).status().message()), HasSubstr("Is a directory"));
}

TEST_F(PromptFileTest, ResumesAfterACutLineAndRetriesErrors) {
  const auto prompts = ReadPrompts(Write("resume", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n{\"prompt\":\"c\"}\n"));
  const std::string first = "{\"line\":1,\"prompt\":\"a\",\"text\":\"x\"}\n",
                    failed = "{\"error\":\"y\",\"line\":2,\"prompt\":\"b\"}\n";
  const std::string third = "{\"line\":3,\"prompt\":\"c\",\"text\":\"z\"}\n";
  const std::string path = Write("results", first + failed + "{\"line\":3,\"pro");
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const auto done = ResumeResults(path, *prompts);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_THAT(*done, ElementsAre(1));
  EXPECT_EQ(Read(path), first);
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);

  // This also holds where only the newline is missing, where an error came before the answer, and where the answer came
  // twice.
  const std::string again = Write("results", failed + third + first + third.substr(0, third.size() - 1));
  EXPECT_THAT(*ResumeResults(again, *prompts), ElementsAre(1, 3));
  EXPECT_EQ(Read(again), third + first);
  // The first line was cut off.
  const std::string begun = Write("results", "{\"finish_reason\":\"LENGTH\",\"gener");
  EXPECT_THAT(*ResumeResults(begun, *prompts), ElementsAre());
  EXPECT_EQ(Read(begun), "");
}

TEST_F(PromptFileTest, LeavesForeignFilesAsTheyAre) {
  const auto prompts = ReadPrompts(Write("other", "{\"prompt\":\"a\"}\n"));
  for (const std::string foreign : {"hello", "hello\n", "{\"name\": \"mine\"}", "{\"error\":\"mine\"}", "{\"name\": [",
                                    "{\"prompt\":\"a\"}\n", "\n", "{\"line\":1,\"prompt\":\"z\",\"text\":\"x\"}\n"}) {
    const std::string path = Write("foreign", foreign);
    EXPECT_EQ(ResumeResults(path, *prompts).status().code(), absl::StatusCode::kInvalidArgument) << foreign;
    EXPECT_EQ(Read(path), foreign);
  }
  EXPECT_TRUE(ResumeResults("/nonexistent/results.jsonl", *prompts)->empty());
}

TEST_F(PromptFileTest, DoesNotReadPipes) {
  const auto prompts = ReadPrompts(Write("other", "{\"prompt\":\"a\"}\n"));
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_TRUE(ResumeResults("/proc/self/fd/" + std::to_string(ends[0]), *prompts)->empty());
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace causeway
