// Tokenizer folders of many kinds, above all older ones: equal to transformers, as testdata/make_folders.py found.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/text/golden.h"
#include "engine/text/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The outcome as make_folders.py writes it.
Json OutcomeOf(const Tokenizer& tokenizer, const Json& texts) {
  Json ids, bare;
  std::set<int32_t> seen;
  for (const std::string text : texts) {
    ids.push_back(tokenizer.Encode(text, true).value());
    bare.push_back(tokenizer.Encode(text, false).value());
    for (const int32_t id : bare.back()) seen.insert(id);
  }
  std::set<int32_t> special;
  for (int32_t id = 0; id < tokenizer.id_bound(); ++id) {
    const auto kept = tokenizer.Decode({id}, false);
    if (kept.ok() && !kept->empty() && tokenizer.Decode({id}, true).value().empty()) special.insert(id);
  }
  const std::vector<int32_t> all(seen.begin(), seen.end());
  return {{"size", tokenizer.vocab_size()},
          {"special", special},
          {"ids", ids},
          {"bare", bare == ids ? Json() : bare},
          {"skipped", tokenizer.Decode(all, true).value()}};
}

TEST(TokenizerFoldersTest, AsTransformersReadsThem) {
  const Json golden = Golden("golden_folders.json");
  int refused = 0;
  for (const Json& folder_case : golden["cases"]) {
    SCOPED_TRACE(folder_case["name"].get<std::string>());
    TempFolder folder;
    for (const auto& [name, index] : folder_case["files"].items()) {
      const Json& content = golden["contents"][index.get<size_t>()];
      folder.Write(name, content.contains("fixture")
                             ? ReadFile(TestData("tokenizers/" + std::string(content["fixture"])))
                         : content.contains("document") ? golden["documents"][std::string(content["document"])].dump()
                                                        : content.dump());
    }
    const Json& wanted = golden["outcomes"][folder_case["outcome"].get<size_t>()];
    const auto tokenizer = Tokenizer::Load(folder.path());
    if (wanted.contains("error")) {
      EXPECT_FALSE(tokenizer.ok()) << "transformers: " << wanted["error"];
      ++refused;
      continue;
    }
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ(OutcomeOf(**tokenizer, golden["texts"]), wanted);
  }
  std::printf("%zu folders, %d of them refused\n", golden["cases"].size(), refused);
  EXPECT_GE(golden["cases"].size(), 2000u);
}

// A folder of gpt2's older files, and more.
std::unique_ptr<TempFolder> OldFolder(const std::string& config) {
  auto folder = std::make_unique<TempFolder>();
  for (const char* name : {"vocab.json", "merges.txt"}) {
    folder->Write(name, ReadFile(TestData(std::string("tokenizers/gpt2_files/") + name)));
  }
  folder->Write("tokenizer_config.json", config);
  return folder;
}

std::vector<std::string> WarningsOf(const TempFolder& folder) {
  const auto tokenizer = Tokenizer::Load(folder.path());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return (*tokenizer)->warnings();
}

TEST(TokenizerFoldersTest, IdsThatAreNotKeptAreWarnedOf) {
  const auto folder = OldFolder(R"({"tokenizer_class": "GPT2Tokenizer"})");
  EXPECT_THAT(WarningsOf(*folder), IsEmpty());
  folder->Write("added_tokens.json", R"({"<pad>": 700, "<mark>": 701})");
  EXPECT_THAT(WarningsOf(*folder), IsEmpty());
  folder->Write("added_tokens.json", R"({"<pad>": 700, "<mark>": 705})");
  EXPECT_THAT(WarningsOf(*folder), ElementsAre(HasSubstr("\"<mark>\" is 701 and not 705")));
  folder->Write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {}})");
  EXPECT_THAT(WarningsOf(*folder), ElementsAre(HasSubstr("\"<pad>\" (700) is no token, \"<mark>\" (705) is no token")));
  std::string many = "{";
  for (int i = 0; i < 100; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "\"<t", i, ">\": ", 900 + i);
  folder->Write("added_tokens.json", many + "}");
  EXPECT_THAT(WarningsOf(*folder), ElementsAre(HasSubstr("and 92 more")));
}

// The classes that transformers takes whole from tokenizer.json ignore the flag; of others it is not known what they
// do.
TEST(TokenizerFoldersTest, APrefixSpaceThatIsNotFollowedIsWarnedOf) {
  TempFolder folder;
  folder.Write("tokenizer.json", ReadFile(TestData("tokenizers/gpt2_like/tokenizer.json")));
  for (const char* name : {"RobertaTokenizer", "LlamaTokenizer"}) {
    folder.Write("tokenizer_config.json", Json({{"tokenizer_class", name}, {"add_prefix_space", true}}).dump());
    EXPECT_THAT(WarningsOf(folder), ElementsAre(HasSubstr("add_prefix_space is true"))) << name;
    folder.Write("tokenizer_config.json", Json({{"tokenizer_class", name}, {"add_prefix_space", false}}).dump());
    EXPECT_THAT(WarningsOf(folder), IsEmpty()) << name;
  }
  for (const char* name : {"PreTrainedTokenizerFast", "TokenizersBackend", "GPT2TokenizerFast"}) {
    folder.Write("tokenizer_config.json", Json({{"tokenizer_class", name}, {"add_prefix_space", true}}).dump());
    EXPECT_THAT(WarningsOf(folder), IsEmpty()) << name;
  }
}

TEST(TokenizerFoldersTest, MalformedFilesAreNamed) {
  for (const char* bad :
       {"[]", R"({"<pad>": "700"})", R"({"<pad>": -1})", R"({"<pad>": 1e99})", R"({"<pad>": 4294967296})"}) {
    const auto folder = OldFolder(R"({"tokenizer_class": "GPT2Tokenizer"})");
    folder->Write("added_tokens.json", bad);
    const absl::Status status = Tokenizer::Load(folder->path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("added_tokens.json")) << bad;
  }
  for (const char* flag : {"split_special_tokens", "add_prefix_space", "add_bos_token", "add_eos_token"}) {
    const auto folder = OldFolder(Json({{"tokenizer_class", "GPT2Tokenizer"}, {flag, "yes"}}).dump());
    const absl::Status status = Tokenizer::Load(folder->path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << flag;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(flag, " of the tokenizer's configuration")));
  }
}

}  // namespace
}  // namespace causeway
