// What a request says about choosing tokens and about stopping.
#ifndef CAUSEWAY_ENGINE_SAMPLING_PARAMS_H_
#define CAUSEWAY_ENGINE_SAMPLING_PARAMS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace causeway {

inline constexpr int32_t kTopLogprobsMax = 20;

struct SamplingParams {
  double temperature = 1;                              // [0, 2]; 0 is greedy
  int32_t top_k = 0;                                   // 0: off
  double top_p = 1;                                    // (0, 1]
  double min_p = 0;                                    // [0, 1]
  double typical_p = 1;                                // (0, 1]
  double repetition_penalty = 1;                       // > 0; over prompt and generated tokens
  double presence_penalty = 0, frequency_penalty = 0;  // [-2, 2]; over generated tokens
  std::vector<std::pair<int32_t, float>> logit_bias;   // token id, within +-100
  uint64_t seed = 0;
  bool logprobs = false;
  int32_t top_logprobs = 0;      // up to kTopLogprobsMax
  bool prompt_logprobs = false;  // also for the prompt's tokens, with as many of the likeliest

  // What reads how often tokens were seen, and what changes logits before a token is chosen. A parameter that does and
  // is not named here does nothing.
  bool needs_counts() const { return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0; }
  bool changes_logits() const { return needs_counts() || !logit_bias.empty(); }
};

struct StopParams {
  int64_t max_tokens = 0;          // of generated tokens; 0: up to the context
  int64_t min_tokens = 0;          // until then, end-of-sequence and stop ids are masked
  std::vector<int32_t> token_ids;  // the request's own, and the model's end-of-sequence ids unless ignore_eos is set
  std::vector<std::string> strings;
  bool include_stop = false;
};

// An InvalidArgument names the field, the value and the range.
absl::Status Validate(const SamplingParams& params, int64_t vocab_size);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SAMPLING_PARAMS_H_
