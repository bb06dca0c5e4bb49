// What tests of grammars share: a vocabulary, masks as lists, and walks through them.
#ifndef CAUSEWAY_ENGINE_TEXT_GRAMMAR_TESTING_H_
#define CAUSEWAY_ENGINE_TEXT_GRAMMAR_TESTING_H_

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/text/grammar.h"

namespace causeway {

struct TestVocabulary {
  // `name` is a folder of testdata/tokenizers.
  explicit TestVocabulary(const std::string& name = "gpt2_like")
      : tokenizer(*Tokenizer::Load(absl::StrCat(CAUSEWAY_SOURCE_DIR, "/engine/text/testdata/tokenizers/", name))),
        compiler(*GrammarCompiler::Create(*tokenizer)) {}

  absl::StatusOr<std::unique_ptr<GrammarMatcher>> Compile(GrammarKind kind, std::vector<std::string> texts) const {
    return compiler->Compile({kind, std::move(texts)});
  }
  absl::StatusOr<std::unique_ptr<GrammarMatcher>> Schema(const std::string& schema) const {
    return Compile(GrammarKind::kJsonSchema, {schema});
  }
  std::string Error(GrammarKind kind, const std::string& text) const {
    return std::string(Compile(kind, {text}).status().message());
  }

  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<GrammarCompiler> compiler;
};

struct Allowed {
  std::vector<int32_t> tokens;
  bool may_end = false;
};

inline Allowed Mask(GrammarMatcher& matcher, const TestVocabulary& vocabulary) {
  // The mask is wider than the vocabulary, as models' heads are.
  std::vector<uint32_t> words((vocabulary.tokenizer->vocab_size() + 1000) / 32 + 1, ~0u);
  Allowed allowed;
  const absl::StatusOr<bool> may_end = matcher.Mask(absl::MakeSpan(words));
  EXPECT_TRUE(may_end.ok()) << may_end.status();
  allowed.may_end = may_end.value_or(true);
  for (size_t t = 0; t < words.size() * 32; ++t) {
    if (words[t / 32] >> (t % 32) & 1) allowed.tokens.push_back(static_cast<int32_t>(t));
  }
  return allowed;
}

// Whether the masks allow exactly this text, token by token.
inline bool Accepts(const GrammarMatcher& matcher, const TestVocabulary& vocabulary, const std::string& text) {
  const std::unique_ptr<GrammarMatcher> copy = *matcher.Clone();
  std::vector<uint32_t> words(vocabulary.tokenizer->vocab_size() / 32 + 1);
  const std::vector<int32_t> ids = *vocabulary.tokenizer->Encode(text, false);
  for (const int32_t id : ids) {
    const absl::StatusOr<bool> may_end = copy->Mask(absl::MakeSpan(words));
    EXPECT_TRUE(may_end.ok()) << may_end.status();
    if ((words[id / 32] >> (id % 32) & 1) == 0) return false;
    if (!copy->Accept(id).ok()) return false;
  }
  const absl::StatusOr<bool> may_end = copy->Mask(absl::MakeSpan(words));
  EXPECT_TRUE(may_end.ok()) << may_end.status();
  return may_end.value_or(false);
}

// Walks along random allowed tokens to the end, or through `tokens_max` of them. A hurried walk prefers tokens that
// close what is open.
inline std::string Walk(GrammarMatcher& matcher, const TestVocabulary& vocabulary, std::mt19937& random, int tokens_max,
                        bool* ended, bool hurried = false) {
  // The text is a completion, so it comes after another token, as in the daemon.
  std::vector<int32_t> ids = *vocabulary.tokenizer->Encode("x", false);
  const std::string before = *vocabulary.tokenizer->Decode(ids, true);
  *ended = false;
  for (int i = 0; i < tokens_max; ++i) {
    const Allowed allowed = Mask(matcher, vocabulary);
    if (allowed.tokens.empty() || (allowed.may_end && random() % 4 == 0)) {
      EXPECT_TRUE(allowed.may_end);
      *ended = true;
      break;
    }
    int32_t next = allowed.tokens[random() % allowed.tokens.size()];
    if (hurried && random() % 2 == 0) {
      for (const char* closing : {"}", "]", "\"", ","}) {
        const int32_t id = vocabulary.tokenizer->Encode(closing, false)->front();
        if (std::find(allowed.tokens.begin(), allowed.tokens.end(), id) != allowed.tokens.end()) {
          next = id;
          break;
        }
      }
    }
    ids.push_back(next);
    EXPECT_LT(ids.back(), vocabulary.tokenizer->vocab_size());
    const absl::Status status = matcher.Accept(ids.back());
    EXPECT_TRUE(status.ok()) << status;
  }
  return vocabulary.tokenizer->Decode(ids, true)->substr(before.size());
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_GRAMMAR_TESTING_H_
