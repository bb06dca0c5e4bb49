// Turns a sequence's tokens into text as they come.
#ifndef CAUSEWAY_ENGINE_TEXT_DETOKENIZER_H_
#define CAUSEWAY_ENGINE_TEXT_DETOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/text/tokenizer.h"

namespace causeway {

// There is one for each generated sequence, and one thread at a time uses it. A token takes constant work, on average.
//
// The results of Append and Flush, put together, are what Tokenizer::Decode gives for all tokens at once (without a
// prompt tail). Each piece is valid UTF-8. Text is given out once no later token can change it. A character whose bytes
// are split over tokens waits for its last byte. A run of byte tokens (<0xE4>, of tokenizers with byte fallback) waits
// for the token after it, since one broken byte turns the whole run into U+FFFD.
class Detokenizer {
 public:
  // `tokenizer` is borrowed and must outlive this. `prompt_tail` holds the last tokens of the prompt; a few are enough.
  // With them, the first generated token is not taken for the start of a text, where decoders drop a space.
  Detokenizer(const Tokenizer* tokenizer, absl::Span<const int32_t> prompt_tail, bool skip_special_tokens);
  ~Detokenizer();
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;

  // Returns the text that is now certain, often "". An id outside the vocabulary has no text, as in Hugging Face's
  // decode (a model's head may have more rows than the tokenizer has tokens).
  absl::StatusOr<std::string> Append(int32_t token);
  // Returns the rest when the sequence ends; an unfinished character becomes U+FFFD.
  std::string Flush();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_DETOKENIZER_H_
