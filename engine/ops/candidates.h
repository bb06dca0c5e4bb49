// Chooses tokens from what Ops::Candidates found in each share of the vocabulary.
#ifndef CAUSEWAY_ENGINE_OPS_CANDIDATES_H_
#define CAUSEWAY_ENGINE_OPS_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "engine/sampling/sampler.h"

namespace causeway {

inline constexpr int64_t CandidateColumns(int64_t count) { return 1 + 2 * count; }

// `shares` is the results of Ops::Candidates for every share of the vocabulary, side by side, in host memory: [rows, n
// * CandidateColumns(count)]. The outputs are those of Ops::Sample, to the last bit where it computes on the host.
// REQUIRES: `count` is at least CandidatesFor each row, none of which is 0, or the row's token is given; no row masks
// tokens or has a grammar.
std::vector<SampleOutput> SampleAmong(const at::Tensor& shares, int64_t count, const std::vector<SampleRow>& rows);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CANDIDATES_H_
