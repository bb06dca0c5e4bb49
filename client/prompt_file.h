// Files of `causeway generate --input prompts.jsonl --output results.jsonl`.
#ifndef CAUSEWAY_CLIENT_PROMPT_FILE_H_
#define CAUSEWAY_CLIENT_PROMPT_FILE_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace causeway {

struct Prompt {
  int64_t line = 0;  // from 1; names the prompt in the results
  std::string text;
  std::optional<int64_t> max_length;  // tokens, prompt and output together, as in transformers
  std::optional<int64_t> max_tokens;  // tokens of the output
};

// The file has one JSON object a line: "prompt" (a string) and at most one of "max_length" and "max_tokens". Blank
// lines are skipped. InvalidArgument lists the bad lines, each with what was expected. A file without prompts, or that
// cannot be read, is refused, too.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path);

// Returns the lines that the results in `path` answer already. A missing file answers none, and neither does a file
// that is not regular (a pipe, or anything under /dev). A last line that a crash cut off is removed from the file.
// Results with an "error" are removed, too, since their prompts are tried again: in the end each prompt has one line.
// InvalidArgument: the file is something else, or answers prompts that `prompts` does not have. It is then left as it
// is.
absl::StatusOr<std::set<int64_t>> ResumeResults(const std::string& path, const std::vector<Prompt>& prompts);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_PROMPT_FILE_H_
