#include "engine/checkpoint/hub.h"

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::Message;
using ::causeway::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Each test starts with none of the cache's variables set. They are put back afterwards.
class HubTest : public ::testing::Test {
 protected:
  HubTest() {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      const char* value = std::getenv(name);
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      ::unsetenv(name);
    }
    Set("HF_HUB_CACHE", folder_.path());
  }
  ~HubTest() override {
    for (const auto& [name, value] : before_)
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }
  void Set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

  TestFolder folder_;
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(HubTest, AFolderIsItself) { EXPECT_EQ(*ResolveModel(folder_.path()), folder_.path()); }

TEST_F(HubTest, FindsMainBranchesAndCommits) {
  folder_.Write("models--org--name/refs/main", "abc123\n");
  folder_.Write("models--org--name/refs/refs/pr/1", "def456");
  folder_.Write("models--org--name/snapshots/abc123/config.json", "{}");
  folder_.Write("models--org--name/snapshots/def456/config.json", "{}");
  folder_.Write("models--gpt2/refs/main", "0");
  folder_.Write("models--gpt2/snapshots/0/config.json", "{}");
  EXPECT_EQ(*ResolveModel("org/name"), folder_ / "models--org--name/snapshots/abc123");
  EXPECT_EQ(*ResolveModel("org/name@main"), folder_ / "models--org--name/snapshots/abc123");
  EXPECT_EQ(*ResolveModel("org/name@refs/pr/1"), folder_ / "models--org--name/snapshots/def456");
  EXPECT_EQ(*ResolveModel("org/name@def456"), folder_ / "models--org--name/snapshots/def456");
  EXPECT_EQ(*ResolveModel("gpt2"), folder_ / "models--gpt2/snapshots/0");
  EXPECT_THAT(Message(ResolveModel("org/name@v2").status()),
              AllOf(HasSubstr("no snapshot of revision v2"), HasSubstr("hf download org/name --revision v2")));
}

TEST_F(HubTest, AnAbsentModelGivesTheCommand) {
  const absl::Status status = ResolveModel("org/name").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("hf download org/name"), HasSubstr(folder_.path())));
}

TEST_F(HubTest, AnIncompleteDownloadGivesTheCommand) {
  folder_.Write("models--org--name/refs/main", "abc");
  EXPECT_THAT(Message(ResolveModel("org/name").status()),
              AllOf(HasSubstr("no snapshot"), HasSubstr("hf download org/name")));
  folder_.Write("models--org--name/snapshots/abc/tokenizer.json", "{}");
  EXPECT_THAT(Message(ResolveModel("org/name").status()),
              AllOf(HasSubstr("not complete"), HasSubstr("hf download org/name")));
}

TEST_F(HubTest, NamesNeverLeaveTheCache) {
  folder_.Write("config.json", "{}");
  folder_.Write("models--org--name/refs/main", "../../..");
  for (const char* name : {"../secret", "org/..", "a/b/c", "/nowhere", "./here", "org/na me", "org/", "~/x"}) {
    EXPECT_THAT(Message(ResolveModel(name).status()), HasSubstr("no folder at")) << name;
  }
  EXPECT_THAT(Message(ResolveModel("org/name").status()), HasSubstr("no snapshot"));
  EXPECT_THAT(Message(ResolveModel("org/name@../../x").status()), HasSubstr("not a branch, tag or commit"));
  EXPECT_THAT(Message(ResolveModel("org/name@").status()), HasSubstr("not a branch, tag or commit"));
  EXPECT_FALSE(ResolveModel("").ok());
}

TEST_F(HubTest, VariablesInTheirOrder) {
  Set("HOME", "/home/me");
  Set("XDG_CACHE_HOME", "/xdg");
  Set("HF_HOME", "~/hf");
  EXPECT_EQ(HubCacheFolder(), folder_.path());
  ::unsetenv("HF_HUB_CACHE");
  EXPECT_EQ(HubCacheFolder(), "/home/me/hf/hub");
  ::unsetenv("HF_HOME");
  EXPECT_EQ(HubCacheFolder(), "/xdg/huggingface/hub");
  ::unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(HubCacheFolder(), "/home/me/.cache/huggingface/hub");
}

}  // namespace
}  // namespace causeway
