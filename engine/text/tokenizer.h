// A model folder's tokenizer: text to token ids and back, with the results of Hugging Face's fast tokenizers.
#ifndef CAUSEWAY_ENGINE_TEXT_TOKENIZER_H_
#define CAUSEWAY_ENGINE_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

// Immutable after Load; any number of threads may use it at once.
class Tokenizer {
 public:
  // Reads tokenizer.json in `folder`, and the added tokens and flags of tokenizer_config.json, special_tokens_map.json
  // and added_tokens.json where these are there. tokenizer.json decides how text is split; truncation and padding saved
  // in it are switched off. A folder of class GPT2Tokenizer or Qwen2Tokenizer may have vocab.json and merges.txt
  // instead. NotFound: the folder has neither; the message names the tokenizer files that are there. InvalidArgument: a
  // file is malformed; the message names it.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `text` must be valid UTF-8 (InvalidArgument otherwise). The text of a special token in it becomes that token,
  // unless the folder's configuration has split_special_tokens.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, bool add_special_tokens) const;
  // The result is always valid UTF-8: other bytes become U+FFFD. InvalidArgument names an id outside the vocabulary.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const;

  // The number of tokens, added ones included. Ids may have gaps, and a model's head may have more rows than this.
  int64_t vocab_size() const;
  // In bytes, as the vocabulary writes it. That is never shorter than the token's text.
  int64_t longest_token() const;
  // One more than the largest id.
  int64_t id_bound() const;
  // What the folder's files ask for and the tokenizer does not do, a sentence each.
  std::vector<std::string> warnings() const;

 private:
  friend class Detokenizer;
  friend class GrammarCompiler;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_TOKENIZER_H_
