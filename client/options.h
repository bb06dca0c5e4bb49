// What the command line says, and how it gets into a request.
#ifndef CAUSEWAY_CLIENT_OPTIONS_H_
#define CAUSEWAY_CLIENT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "causeway/v1/generation.pb.h"

namespace CLI {
class App;
}

namespace causeway {

struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int32_t> top_k, n;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID:BIAS"
  std::optional<int64_t> max_tokens, min_tokens;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_ids;
  bool ignore_eos = false, include_stop = false;
  std::optional<std::string> json_schema_file, regex, grammar_file;  // at most one of these and the next two
  bool json_object = false;
  std::vector<std::string> choices;
  bool compact_json = false;
  std::string model, cache_salt;
  int32_t priority = 0;
  double timeout_seconds = 0;  // 0: none
  // `app` is parsed into this object.
  void AddTo(CLI::App& app);
  // Sets only what was given; the rest is the model's default. InvalidArgument: a malformed bias, or a file that cannot
  // be read.
  absl::Status Fill(v1::GenerateRequest& request) const;

 private:
  absl::Status FillGrammar(v1::GenerateRequest& request) const;
};

// For CLI::Option::check. CLI::Range accepts nan and writes its ends with hundreds of digits.
std::function<std::string(const std::string&)> NumberBetween(double minimum, double maximum);

// "1,2,3" -> ids. InvalidArgument names what is not a token id.
absl::StatusOr<std::vector<int32_t>> ParseTokenIds(const std::string& text);
// "0,5,-1" -> layers; "all" -> none. InvalidArgument names what is not a layer.
absl::StatusOr<std::vector<int32_t>> ParseLayers(const std::string& text);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_OPTIONS_H_
