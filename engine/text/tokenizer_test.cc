#include "engine/text/tokenizer.h"

#include <thread>

#include "engine/text/golden.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ModelFolder(const std::string& name) { return TestData("tokenizers/" + name); }

class GoldenTokenizerTest : public ::testing::TestWithParam<Json> {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(ModelFolder(GetParam()["name"]));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  // `expected` is {without, with skip_special_tokens}; null stands for `text`.
  void ExpectDecoded(const std::vector<int32_t>& ids, const Json& expected, const std::string& text) {
    for (const bool skip : {false, true}) {
      const Json& wanted = expected[skip];
      const auto decoded = tokenizer_->Decode(ids, skip);
      ASSERT_TRUE(decoded.ok()) << decoded.status();
      EXPECT_EQ(*decoded, wanted.is_null() ? text : wanted.get<std::string>()) << "skip_special_tokens " << skip;
    }
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(GoldenTokenizerTest, EncodesAndDecodesHardTexts) {
  const Json golden = Golden("golden.json");
  const Json& texts = golden["texts"];
  ASSERT_EQ(texts.size(), GetParam()["texts"].size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const Json& wanted = GetParam()["texts"][i];
    const std::string text = texts[i];
    SCOPED_TRACE("text " + std::to_string(i) + ": " + text);
    const auto plain = tokenizer_->Encode(text, false);
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_EQ(Json(*plain), wanted["ids"]);
    const auto special = tokenizer_->Encode(text, true);
    ASSERT_TRUE(special.ok()) << special.status();
    EXPECT_EQ(Json(*special), wanted["special_ids"].is_null() ? wanted["ids"] : wanted["special_ids"]);
    ExpectDecoded(wanted["ids"], wanted["decoded"], text);
  }
}

TEST_P(GoldenTokenizerTest, DecodesRandomIds) {
  for (const Json& wanted : GetParam()["random"]) {
    SCOPED_TRACE(wanted["ids"].dump());
    ExpectDecoded(wanted["ids"], wanted["decoded"], "");
  }
}

TEST_P(GoldenTokenizerTest, KnowsItsSpecialTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), GetParam()["size"].get<int64_t>());
  for (const auto& [token, id] : GetParam()["special"].items()) {
    EXPECT_EQ(Json(tokenizer_->Encode(token, false).value()), Json({id})) << token;
    EXPECT_EQ(tokenizer_->Decode({id.get<int32_t>()}, true).value(), "") << token;
    EXPECT_EQ(tokenizer_->Decode({id.get<int32_t>()}, false).value(), token);
  }
}

TEST_P(GoldenTokenizerTest, NoTokenIsLongerThanTheLongest) {
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    EXPECT_LE(static_cast<int64_t>(tokenizer_->Decode({id}, false).value().size()), tokenizer_->longest_token()) << id;
  }
}

TEST_P(GoldenTokenizerTest, UnknownIdsAreNamed) {
  const auto past_end = static_cast<int32_t>(tokenizer_->vocab_size());
  for (const int32_t bad : {past_end, -1, INT32_MAX, INT32_MIN}) {
    const auto text = tokenizer_->Decode({0, bad}, false);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(text.status().message()), HasSubstr("token id " + std::to_string(bad) + " at position 1"));
  }
}

TEST_P(GoldenTokenizerTest, RefusesBrokenUtf8) {
  for (const char* bad : {"ab\xff", "ab\xc3", "ab\xed\xa0\x80", "ab\xc0\xaf"}) {
    const auto ids = tokenizer_->Encode(bad, true);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(ids.status().message()), HasSubstr("from byte 2"));
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenTokenizerTest,
                         ::testing::ValuesIn(Golden("golden.json")["tokenizers_golden"].get<std::vector<Json>>()),
                         [](const auto& info) { return info.param["name"].template get<std::string>(); });

TEST(TokenizerTest, ManyThreadsAtOnce) {
  const auto tokenizer = Tokenizer::Load(ModelFolder("llama3_like"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Json golden = Golden("golden.json");
  std::vector<std::string> texts = golden["texts"];
  std::vector<std::vector<int32_t>> wanted;
  for (const std::string& text : texts) wanted.push_back((*tokenizer)->Encode(text, true).value());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ((*tokenizer)->Encode(texts[i], true).value(), wanted[i]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TokenizerTest, MissingTokenizerNamesWhatIsThere) {
  TempFolder folder;
  EXPECT_EQ(Tokenizer::Load(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("tokenizer.model", "x");
  folder.Write("vocab.json", "{}");
  folder.Write("merges.txt", "");
  const absl::Status status = Tokenizer::Load(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.model, vocab.json, merges.txt"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder.path()));
  EXPECT_EQ(Tokenizer::Load(folder.path() + "/nowhere").status().code(), absl::StatusCode::kNotFound);
}

// Every cut of a good file gives an error that names the file, and so does every file of a wrong kind.
TEST(TokenizerTest, MalformedFilesAreErrors) {
  const std::string good = ReadFile(ModelFolder("llama2_like") + "/tokenizer.json");
  TempFolder folder;
  const auto expect_bad = [&](const std::string& content) {
    folder.Write("tokenizer.json", content);
    const absl::Status status = Tokenizer::Load(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status << " for " << content.substr(0, 60);
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
  };
  for (size_t length = 0; length + 2 < good.size(); length += 97) expect_bad(good.substr(0, length));
  expect_bad("[]");
  expect_bad("{}");
  expect_bad("null");
  expect_bad("\xff\xfe");
  expect_bad(R"({"version": "9.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})");
  expect_bad(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})");
  expect_bad(R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})");
  expect_bad(R"({"model": {"type": "NoSuchModel", "vocab": {}}})");
  expect_bad(std::string(1000000, '['));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"type":"Sequence","decoders":[)";
  expect_bad(R"({"decoder":)" + deep);
}

// transformers does the same; null_specials among the golden ones has more of this.
TEST(TokenizerTest, NamesSetToNullHaveNoToken) {
  TempFolder folder;
  for (const char* name : {"vocab.json", "merges.txt"}) folder.Write(name, ReadFile(ModelFolder("gpt2_files/") + name));
  for (const bool null : {false, true}) {
    folder.Write("tokenizer_config.json", null ? R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": null,
                                                     "eos_token": null, "unk_token": null})"
                                               : R"({"tokenizer_class": "GPT2Tokenizer"})");
    const auto tokenizer = Tokenizer::Load(folder.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->vocab_size(), 700);
    EXPECT_EQ((*tokenizer)->Encode("a<|endoftext|>b", false)->size(), null ? 13u : 3u);
  }
}

TEST(TokenizerTest, MalformedConfigurationIsAnError) {
  TempFolder folder;
  folder.Write("tokenizer.json", ReadFile(ModelFolder("gpt2_like") + "/tokenizer.json"));
  for (const char* bad : {"{", "[]", R"({"bos_token": 5})", R"({"bos_token": {"no content": 1}})",
                          R"({"added_tokens_decoder": {"x": {"content": "a"}}})",
                          R"({"added_tokens_decoder": {"1": 7}})", R"({"extra_special_tokens": 3})"}) {
    folder.Write("tokenizer_config.json", bad);
    const absl::Status status = Tokenizer::Load(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(folder.path()));
  }
  folder.Write("tokenizer_config.json", "{}");
  EXPECT_TRUE(Tokenizer::Load(folder.path()).ok());
}

// The crate's Strip decoder reads past the start of a token that is shorter than what it should strip: a panic in Rust.
TEST(TokenizerTest, PanicInRustIsAStatus) {
  TempFolder folder;
  folder.Write("tokenizer.json", R"({"version": "1.0", "added_tokens": [],
      "decoder": {"type": "Strip", "content": "a", "start": 0, "stop": 3},
      "model": {"type": "WordLevel", "vocab": {"a": 0, "abaaa": 1}, "unk_token": "a"}})");
  const auto tokenizer = Tokenizer::Load(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto text = (*tokenizer)->Decode({0}, false);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr("decoding panicked"));
  // The tokenizer still works.
  EXPECT_EQ((*tokenizer)->Decode({1}, false).value(), "ab");
}

}  // namespace
}  // namespace causeway
