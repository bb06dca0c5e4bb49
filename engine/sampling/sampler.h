// Chooses one token from one row of logits, on the host. Torch-free: Ops::Sample (engine/ops/sample.cc) hands it rows
// that lie in CPU memory. That file samples rows on another device with operations on tensors, which make the same
// choices: what changes here has to change there too.
#ifndef CAUSEWAY_ENGINE_SAMPLING_SAMPLER_H_
#define CAUSEWAY_ENGINE_SAMPLING_SAMPLER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "engine/sampling/params.h"

namespace causeway {

// One row to sample from. SamplingOptions in proto/causeway/v1/generation.proto says what the parameters mean. All
// pointers are borrowed for the call.
struct SampleRow {
  const SamplingParams* params = nullptr;
  // Tokens that must not be chosen now (stop ids before min_tokens); may be null. Ids outside the vocabulary are
  // ignored.
  const std::vector<int32_t>* masked = nullptr;
  // How often each token was seen, [vocab] each; null unless params->needs_counts().
  const std::vector<int32_t>* prompt_counts = nullptr;  // only whether it is > 0 matters
  const std::vector<int32_t>* output_counts = nullptr;
  // Where a grammar constrains the row: bit t % 32 of word t / 32 says whether token t may be chosen; tokens beyond the
  // last word may not. Empty: all may.
  absl::Span<const uint32_t> allowed = {};
  // Not negative: nothing is chosen, the output is about this token.
  int32_t given = -1;
  double uniform = 0;  // in [0, 1): the random number for this row, UniformAt(params->seed, StepSequence::generated)
};

struct SampleOutput {
  bool finite = true;  // whether all of the row's raw logits are; else the rest says nothing
  int32_t token = 0;
  float logprob = 0;  // of the raw distribution, when params->logprobs
  std::vector<std::pair<int32_t, float>>
      top;  // params->top_logprobs of them, most likely first; lower id first on ties
};

// Working memory kept between calls, so that a call allocates nothing once it has grown; one per thread.
struct SampleScratch {
  struct Candidate {
    float logit;
    int32_t token;
  };
  struct Distance {
    double distance, weight;
  };
  std::vector<float> raw;                  // the row as it came, where both it and the processed one are needed
  std::vector<float> maxima;               // of the row's blocks
  std::vector<double> sums;                // of the row's blocks
  std::vector<Candidate> kept, selection;  // kept: in the order of ids; selection: reordered while selecting
  std::vector<Distance> distances;         // of the kept from what is typical
};

// `logits` [vocab] is scratch: modified. The order of processors is allowed, masked, logit_bias, repetition, frequency,
// presence, temperature, top_k, top_p, min_p, typical_p, sample. Temperature 0 is greedy: the largest processed logit,
// the lowest id on ties. Otherwise each kept token is drawn with its share of the kept tokens' probability: a pure
// function of the arguments. NaN logits count as -infinity. When every token is ruled out, the result is token 0, of
// which Allows may say no.
SampleOutput SampleOne(absl::Span<float> logits, const SampleRow& row, SampleScratch& scratch);

// Whether a grammar lets the row choose this token of the vocabulary.
bool Allows(const SampleRow& row, int32_t token);

// A random number in [0, 1) that depends on nothing but the two arguments: a row's randomness doesn't depend on its
// batch.
double UniformAt(uint64_t seed, uint64_t position);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SAMPLING_SAMPLER_H_
