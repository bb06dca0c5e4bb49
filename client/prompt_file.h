// Files of `causeway generate --input prompts.jsonl --output results.jsonl`.
#ifndef CAUSEWAY_CLIENT_PROMPT_FILE_H_
#define CAUSEWAY_CLIENT_PROMPT_FILE_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace causeway {

struct Prompt {
  int64_t line = 0;  // from 1; names the prompt in the results
  std::string text;
  nlohmann::json id;                  // a text or a whole number, kept in the results; null: none
  std::optional<int64_t> max_length;  // tokens, prompt and output together, as in transformers
  std::optional<int64_t> max_tokens;  // tokens of the output
};

// One JSON object a line: "prompt" (a string), if you like an "id", and at most one of "max_length" and "max_tokens".
// Blank lines are skipped; the path "-" is standard input. InvalidArgument lists the bad lines, each with what was
// expected; a file without prompts, or that cannot be read, is refused too.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path);

// The lines that results in `path` answer already; a missing file, "-" (standard output), and what is no regular file
// (a pipe, what is under /dev) answer none. A last line that was cut off by a crash is removed from the file, and so
// are results with an "error", since those prompts are tried again: in the end each prompt has one line.
// InvalidArgument, and the file is left as it is, when it is something else, or answers prompts that `prompts` does not
// have.
absl::StatusOr<std::set<int64_t>> ResumeResults(const std::string& path, const std::vector<Prompt>& prompts);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_PROMPT_FILE_H_
