#include "engine/sampling/params.h"

#include <charconv>
#include <cmath>
#include <concepts>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

// Writes as many digits as tell a number from its neighbours: StrCat's six would write 2.0000001 as 2.
std::string Spelled(std::floating_point auto value) {
  char text[64];
  return std::string(text, std::to_chars(text, text + sizeof(text), value, std::chars_format::general).ptr);
}
std::string Spelled(std::integral auto value) { return absl::StrCat(value); }

// `range` is how the message writes the bounds. A NaN is inside no range.
absl::Status Check(bool inside, absl::string_view field, auto value, absl::string_view range) {
  if (inside) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", Spelled(value), ", expected ", range));
}

}  // namespace

absl::Status Validate(const SamplingParams& p, int64_t vocab_size) {
  CAUSEWAY_RETURN_IF_ERROR(
      Check(p.temperature >= 0 && p.temperature <= 2, "temperature", p.temperature, "a number in [0, 2]"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.top_k >= 0, "top_k", p.top_k, "0 (off) or more"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "a number in (0, 1]"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "a number in [0, 1]"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.typical_p > 0 && p.typical_p <= 1, "typical_p", p.typical_p, "a number in (0, 1]"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty",
                                 p.repetition_penalty, "a finite number above 0"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.presence_penalty >= -2 && p.presence_penalty <= 2, "presence_penalty",
                                 p.presence_penalty, "a number in [-2, 2]"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.frequency_penalty >= -2 && p.frequency_penalty <= 2, "frequency_penalty",
                                 p.frequency_penalty, "a number in [-2, 2]"));
  CAUSEWAY_RETURN_IF_ERROR(Check(p.top_logprobs >= 0 && p.top_logprobs <= kTopLogprobsMax, "top_logprobs",
                                 p.top_logprobs, absl::StrCat("a number in [0, ", kTopLogprobsMax, "]")));
  for (const auto& [token, bias] : p.logit_bias) {
    CAUSEWAY_RETURN_IF_ERROR(Check(token >= 0 && token < vocab_size, "logit_bias token id", token,
                                   absl::StrCat("an id in [0, ", vocab_size, ")")));
    CAUSEWAY_RETURN_IF_ERROR(Check(bias >= -100 && bias <= 100, absl::StrCat("logit_bias of token ", token), bias,
                                   "a number in [-100, 100]"));
  }
  return absl::OkStatus();
}

}  // namespace causeway
