#include "engine/text/detokenizer.h"

#include <algorithm>
#include <random>

#include "absl/strings/match.h"
#include "engine/text/golden.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace causeway {
namespace {

std::unique_ptr<Tokenizer> Load(const std::string& name) {
  auto tokenizer = Tokenizer::Load(TestData("tokenizers/" + name));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<std::string> TokenizerNames() {
  std::vector<std::string> names;
  const Json golden = Golden("golden.json");
  for (const Json& tokenizer : golden["tokenizers_golden"]) names.push_back(tokenizer["name"]);
  return names;
}

// Returns all text in order; checks that each piece is valid UTF-8.
std::string Stream(Detokenizer& detokenizer, absl::Span<const int32_t> ids, int* pieces = nullptr) {
  std::string text;
  for (const int32_t id : ids) {
    auto delta = detokenizer.Append(id);
    EXPECT_TRUE(delta.ok()) << delta.status();
    EXPECT_TRUE(IsUtf8(*delta)) << "token " << id;
    if (pieces != nullptr) *pieces += !delta->empty();
    text += *delta;
  }
  const std::string rest = detokenizer.Flush();
  EXPECT_TRUE(IsUtf8(rest));
  EXPECT_EQ(detokenizer.Flush(), "");
  return text + rest;
}

class DetokenizerTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = Load(GetParam());
};

TEST_P(DetokenizerTest, HardTextsTokenByToken) {
  const Json golden = Golden("golden.json");
  for (const std::string text : golden["texts"]) {
    SCOPED_TRACE(text);
    for (const bool special : {false, true}) {
      const std::vector<int32_t> ids = tokenizer_->Encode(text, special).value();
      for (const bool skip : {false, true}) {
        Detokenizer detokenizer(tokenizer_.get(), {}, skip);
        EXPECT_EQ(Stream(detokenizer, ids), tokenizer_->Decode(ids, skip).value());
      }
    }
  }
}

// Random ids break characters in every way. Pools of few ids put the same breaks next to each other.
TEST_P(DetokenizerTest, RandomTokensTokenByToken) {
  std::mt19937 rng(20240726);
  std::vector<int32_t> known;
  for (int32_t id = 0; id < tokenizer_->vocab_size() + 8; ++id) {
    if (tokenizer_->Decode({id}, false).ok()) known.push_back(id);
  }
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> pool;
    std::sample(known.begin(), known.end(), std::back_inserter(pool), size_t{2} + rng() % 30, rng);
    std::vector<int32_t> ids(1 + rng() % 60);
    for (int32_t& id : ids) id = pool[rng() % pool.size()];
    const bool skip = rng() % 2 == 0;
    Detokenizer detokenizer(tokenizer_.get(), {}, skip);
    ASSERT_EQ(Stream(detokenizer, ids), tokenizer_->Decode(ids, skip).value()) << Json(ids).dump() << " skip " << skip;
  }
}

// When the prompt's last tokens are known, a completion has the text that follows the prompt in the whole text.
TEST_P(DetokenizerTest, ContinuesAPrompt) {
  if (GetParam() == "word_suffix") GTEST_SKIP() << "its decoder drops the space after the last token of a text";
  const Json golden = Golden("golden.json");
  for (const std::string text : golden["texts"]) {
    const std::vector<int32_t> ids = tokenizer_->Encode(text, false).value();
    const std::string whole = tokenizer_->Decode(ids, true).value();
    for (size_t cut = 0; cut <= ids.size(); cut += 1 + ids.size() / 16) {
      const absl::Span<const int32_t> prompt = absl::MakeSpan(ids).first(cut);
      const std::string before = tokenizer_->Decode(prompt, true).value();
      if (absl::EndsWith(before, "\xef\xbf\xbd")) continue;  // inside a character, which another test covers
      for (const size_t tail : {cut, std::min(cut, size_t{6})}) {
        Detokenizer detokenizer(tokenizer_.get(), prompt.last(tail), true);
        const std::string after = Stream(detokenizer, absl::MakeSpan(ids).subspan(cut));
        // A tail without any visible text is like no tail: the completion is then the start of a text.
        if (tokenizer_->Decode(prompt.last(tail), true).value().empty()) continue;
        EXPECT_EQ(before + after, whole) << "cut at " << cut << " with " << tail << " tokens known of " << text;
      }
    }
  }
}

// Quadratic work would take hours here.
TEST_P(DetokenizerTest, LongSequencesTakeLinearTime) {
  for (const std::string text : {" ", "a", "\xe4\xbd\xa0", "\xef\xbf\xbd", "\n"}) {
    const std::vector<int32_t> ids = tokenizer_->Encode(text, false).value();
    std::vector<int32_t> many;
    while (!ids.empty() && many.size() < 200000) many.insert(many.end(), ids.begin(), ids.end());
    Detokenizer detokenizer(tokenizer_.get(), {}, false);
    EXPECT_EQ(Stream(detokenizer, many), tokenizer_->Decode(many, false).value());
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, DetokenizerTest, ::testing::ValuesIn(TokenizerNames()),
                         [](const auto& info) { return info.param; });

int32_t Id(const std::string& name, const std::string& token) {
  return Golden("tokenizers/" + name + "/tokenizer.json")["model"]["vocab"].at(token);
}

TEST(DetokenizerStreamTest, ByteLevelGivesTextAsSoonAsACharacterIsWhole) {
  const auto tokenizer = Load("gpt2_like");
  // The tokens that stand for bytes: F0 9F 98 80 is the grinning face.
  const int32_t f0 = Id("gpt2_like", "ð"), n9f = Id("gpt2_like", "Ł");
  const int32_t n98 = Id("gpt2_like", "ĺ"), n80 = Id("gpt2_like", "Ģ");
  Detokenizer detokenizer(tokenizer.get(), {}, false);
  EXPECT_EQ(*detokenizer.Append(Id("gpt2_like", "a")), "a");
  EXPECT_EQ(*detokenizer.Append(f0), "");
  EXPECT_EQ(*detokenizer.Append(n9f), "");
  EXPECT_EQ(*detokenizer.Append(n98), "");
  EXPECT_EQ(*detokenizer.Append(n80), "\xf0\x9f\x98\x80");
  EXPECT_EQ(*detokenizer.Append(n80), "\xef\xbf\xbd");  // a byte that cannot begin a character is broken at once
  EXPECT_EQ(*detokenizer.Append(f0), "");
  EXPECT_EQ(*detokenizer.Append(Id("gpt2_like", "a")),
            "\xef\xbf\xbd"
            "a");
  EXPECT_EQ(*detokenizer.Append(f0), "");
  EXPECT_EQ(detokenizer.Flush(), "\xef\xbf\xbd");
}

TEST(DetokenizerStreamTest, PromptThatEndsInsideACharacter) {
  const auto tokenizer = Load("gpt2_like");
  const int32_t f0 = Id("gpt2_like", "ð"), n9f = Id("gpt2_like", "Ł");
  const int32_t n98 = Id("gpt2_like", "ĺ"), n80 = Id("gpt2_like", "Ģ");
  const int32_t a = Id("gpt2_like", "a");
  Detokenizer completed(tokenizer.get(), {a, f0, n9f}, false);
  EXPECT_EQ(Stream(completed, {n98, n80, a}),
            "\xf0\x9f\x98\x80"
            "a");
  Detokenizer broken(tokenizer.get(), {a, f0, n9f}, false);
  EXPECT_EQ(Stream(broken, {a}), "a");  // the prompt's broken character is not part of the completion
  Detokenizer untouched(tokenizer.get(), {a, f0, n9f}, false);
  EXPECT_EQ(untouched.Flush(), "");
}

// The same with a decoder that breaks a whole run of bytes if any is broken: each byte becomes one U+FFFD, the prompt's
// too.
TEST(DetokenizerStreamTest, PromptThatEndsInsideARunOfBytes) {
  for (const char* name : {"llama2_like", "gemma_like"}) {
    const auto tokenizer = Load(name);
    const int32_t f0 = Id(name, "<0xF0>"), n9f = Id(name, "<0x9F>"), n98 = Id(name, "<0x98>"), n80 = Id(name, "<0x80>");
    const int32_t a = Id(name, "a");
    const auto completed = [&](const std::vector<int32_t>& ids) {
      Detokenizer detokenizer(tokenizer.get(), {a, f0, n9f}, false);
      return Stream(detokenizer, ids);
    };
    EXPECT_EQ(completed({n98, n80, a}),
              "\xf0\x9f\x98\x80"
              "a");
    EXPECT_EQ(completed({a}), "a");
    EXPECT_EQ(completed({a, f0, n9f, n98, n80}), "a\xf0\x9f\x98\x80");
    EXPECT_EQ(completed({n98, a}),
              "\xef\xbf\xbd"
              "a");
    EXPECT_EQ(completed({n98}), "\xef\xbf\xbd");
    EXPECT_EQ(completed({}), "");
  }
}

TEST(DetokenizerStreamTest, ByteFallbackHoldsARunOfBytes) {
  const auto tokenizer = Load("llama2_like");
  const auto byte = [&](const char* name) { return Id("llama2_like", name); };
  const int32_t a = Id("llama2_like", "a");
  Detokenizer good(tokenizer.get(), {a}, false);
  EXPECT_EQ(*good.Append(byte("<0xE4>")), "");
  EXPECT_EQ(*good.Append(byte("<0xBD>")), "");
  EXPECT_EQ(*good.Append(byte("<0xA0>")), "");
  EXPECT_EQ(*good.Append(a),
            "\xe4\xbd\xa0"
            "a");
  EXPECT_EQ(*good.Append(byte("<0x0A>")), "");
  EXPECT_EQ(good.Flush(), "\n");
  // One more byte breaks the whole run, in Hugging Face's decoder, too: the bytes that were held back become four times
  // U+FFFD.
  Detokenizer bad(tokenizer.get(), {}, false);
  const std::vector<int32_t> ids = {byte("<0xE4>"), byte("<0xBD>"), byte("<0xA0>"), byte("<0xFF>")};
  EXPECT_EQ(Stream(bad, ids), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(DetokenizerStreamTest, FirstSpaceIsKeptAfterAPrompt) {
  const auto tokenizer = Load("llama2_like");
  const std::vector<int32_t> ids = tokenizer->Encode("the keeper", false).value();
  Detokenizer alone(tokenizer.get(), {}, true);
  EXPECT_EQ(Stream(alone, ids), "the keeper");
  const std::vector<int32_t> prompt = tokenizer->Encode("said", true).value();
  Detokenizer continued(tokenizer.get(), prompt, true);
  EXPECT_EQ(Stream(continued, ids), " the keeper");
}

TEST(DetokenizerStreamTest, UnknownIdsHaveNoText) {
  const auto tokenizer = Load("gpt2_like");
  const int32_t a = Id("gpt2_like", "a");
  Detokenizer detokenizer(tokenizer.get(), {-1, a, INT32_MAX}, false);
  EXPECT_EQ(Stream(detokenizer, {a, 50256, -7, a}), "aa");
}

TEST(DetokenizerStreamTest, DecoderWhoseLastTokenCountsWaitsForTheEnd) {
  const auto tokenizer = Load("word_suffix");
  const std::vector<int32_t> ids = tokenizer->Encode("the ships came back", false).value();
  int pieces = 0;
  Detokenizer detokenizer(tokenizer.get(), {}, false);
  EXPECT_EQ(Stream(detokenizer, ids, &pieces), "the ships came back");
  EXPECT_EQ(pieces, 0);
}

// The other tokenizers do stream: nearly every token of plain text gives some text.
TEST(DetokenizerStreamTest, PlainTextComesTokenByToken) {
  for (const char* name : {"gpt2_like", "llama2_like", "llama3_like", "gemma_like", "unigram", "wordpiece"}) {
    const auto tokenizer = Load(name);
    const std::string text = "the keeper counted the ships that passed before dawn";
    const std::vector<int32_t> ids = tokenizer->Encode(text, false).value();
    int pieces = 0;
    Detokenizer detokenizer(tokenizer.get(), {}, false);
    Stream(detokenizer, ids, &pieces);
    EXPECT_GE(pieces + 1, static_cast<int>(ids.size())) << name;
  }
}

// A panic in a decoder is an error of Append, not the end of the process.
TEST(DetokenizerStreamTest, PanicInRustIsAStatus) {
  TempFolder folder;
  folder.Write("tokenizer.json", R"({"version": "1.0", "added_tokens": [],
      "decoder": {"type": "Strip", "content": "a", "start": 0, "stop": 3},
      "model": {"type": "WordLevel", "vocab": {"a": 0, "abaaa": 1}, "unk_token": "a"}})");
  const auto tokenizer = Tokenizer::Load(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  Detokenizer fresh(tokenizer->get(), {}, false);
  EXPECT_EQ(fresh.Append(0).status().code(), absl::StatusCode::kInternal);
  Detokenizer never(tokenizer->get(), {0}, false);
  EXPECT_EQ(never.Append(1).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(never.Flush(), "");
}

}  // namespace
}  // namespace causeway
