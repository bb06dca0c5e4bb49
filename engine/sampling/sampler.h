// Chooses one token from one row of logits, on the host, without torch. Ops::Sample (engine/ops/sample.cc) calls it for
// rows that lie in CPU memory. For rows on another device, that file makes the same choices with operations on tensors:
// a change here needs a change there, too.
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
  // Set where a grammar constrains the row: bit t % 32 of word t / 32 says whether token t may be chosen. Tokens beyond
  // the last word may not. When it is empty, all tokens may.
  absl::Span<const uint32_t> allowed = {};
  // When it is not negative, nothing is chosen: the output describes this token.
  int32_t given = -1;
  double uniform = 0;  // in [0, 1): the random number for this row, UniformAt(params->seed, StepSequence::generated)
};

struct SampleOutput {
  bool finite = true;  // whether all of the row's raw logits are; else the rest says nothing
  int32_t token = 0;
  float logprob = 0;  // under the raw distribution, when params->logprobs
  std::vector<std::pair<int32_t, float>>
      top;  // params->top_logprobs tokens, most likely first; the lower id first on ties
};

// Working memory that is kept between calls, so that a call allocates nothing once it has grown. Each thread has one.
struct SampleScratch {
  struct Candidate {
    float logit;
    int32_t token;
  };
  struct Distance {
    double distance, weight;
  };
  std::vector<float> raw;                  // the row as it came, where both it and the processed one are needed
  std::vector<float> maxima;               // one for each block of the row
  std::vector<double> sums;                // one for each block of the row
  std::vector<Candidate> kept, selection;  // kept: in the order of ids; selection: reordered while selecting
  std::vector<Distance> distances;         // how far each kept token is from typical
};

// `logits` [vocab] is scratch and gets modified. The order of processors is allowed, masked, logit_bias, repetition,
// frequency, presence, temperature, top_k, top_p, min_p, typical_p, sample. Temperature 0 is greedy: it takes the
// largest processed logit, the lowest id on ties. Otherwise each kept token is drawn with its share of the kept tokens'
// probability. The result is a pure function of the arguments. NaN logits count as -infinity. When every token is ruled
// out, the result is token 0, which Allows may refuse.
SampleOutput SampleOne(absl::Span<float> logits, const SampleRow& row, SampleScratch& scratch);

// The ranks of a group that shares the vocabulary can choose a token without one of them having all logits: each finds
// the likeliest tokens of its share, and the choice is made among those of all.
//
// How many of each share suffice for the choice that SampleOne makes. 0: the choice needs every logit.
int64_t CandidatesFor(const SamplingParams& params, int64_t vocab);
inline constexpr int64_t kCandidatesMax = 1024;
// Puts the `count` likeliest tokens of a row, or of a share of one, into scratch.kept, in the order of ids from 0 on.
// They are fewer where the others are -infinity or NaN.
void FindCandidates(absl::Span<const float> logits, int64_t count, SampleScratch& scratch);
// The token that SampleOne chooses, from scratch.kept: the candidates of all shares, in the order of ids.
// REQUIRES: CandidatesFor(*row.params) of them, and a row that neither masks tokens nor has a grammar.
int32_t ChooseCandidate(const SampleRow& row, SampleScratch& scratch);

// Whether a grammar allows the row to choose this token of the vocabulary.
bool Allows(const SampleRow& row, int32_t token);

// A random number in [0, 1) that depends on nothing but the two arguments, so that a row's randomness doesn't depend on
// its batch.
double UniformAt(uint64_t seed, uint64_t position);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SAMPLING_SAMPLER_H_
