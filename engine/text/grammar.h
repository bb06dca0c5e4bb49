// Grammars that an output follows: they turn a schema, a regular expression or the like into the tokens that may come
// next.
#ifndef CAUSEWAY_ENGINE_TEXT_GRAMMAR_H_
#define CAUSEWAY_ENGINE_TEXT_GRAMMAR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/text/tokenizer.h"

namespace causeway {

enum class GrammarKind : uint8_t {
  kJsonSchema = 0,
  kJsonObject = 1,  // any JSON object; takes no text
  kRegex = 2,       // the whole output matches it
  kChoice = 3,      // the output is one of the texts
  kLark = 4,        // llguidance's dialect of Lark
};

struct GrammarSource {
  GrammarKind kind = GrammarKind::kJsonSchema;
  std::vector<std::string> texts;  // one text; none for kJsonObject, one or more for kChoice
  bool compact_json = false;       // kJsonSchema and kJsonObject: without white space, whatever the schema says
};

// How far one text has got in its grammar. One thread at a time uses it; copies are independent.
class GrammarMatcher {
 public:
  ~GrammarMatcher();

  absl::StatusOr<std::unique_ptr<GrammarMatcher>> Clone() const;
  // Moves on by `token`, which the last mask allowed. InvalidArgument: it did not; the matcher can then not be used any
  // more.
  absl::Status Accept(int32_t token);
  // Sets the bits of the tokens that may come next, bit t % 32 of word t / 32, and clears all others. Returns whether
  // the text may end here; without a bit set it must. A mask takes a fraction of a millisecond, and about ten
  // milliseconds at most. InvalidArgument: nothing fits and the text may not end, or the grammar is too complex here;
  // the matcher can then not be used any more.
  absl::StatusOr<bool> Mask(absl::Span<uint32_t> words);

 private:
  friend class GrammarCompiler;
  struct Impl;
  explicit GrammarMatcher(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

// Immutable; any number of threads may use it at once.
class GrammarCompiler {
 public:
  // Takes the tokens' texts, half a second for 128,000 of them. InvalidArgument: the tokens have no texts of their own.
  static absl::StatusOr<std::unique_ptr<GrammarCompiler>> Create(const Tokenizer& tokenizer);
  ~GrammarCompiler();

  // Takes milliseconds, and up to a second for a text made to be hard. The text's size, its nesting, the work and the
  // result are limited. InvalidArgument says what is wrong, and where if the library knows.
  absl::StatusOr<std::unique_ptr<GrammarMatcher>> Compile(const GrammarSource& source) const;

 private:
  struct Impl;
  explicit GrammarCompiler(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_GRAMMAR_H_
