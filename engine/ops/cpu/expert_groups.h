// The tokens of a batch ordered by expert.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_EXPERT_GROUPS_H_
#define CAUSEWAY_ENGINE_OPS_CPU_EXPERT_GROUPS_H_

#include <cstdint>
#include <vector>

namespace causeway::cpu {

// A row is one token on its way through one expert. Rows of an expert are neighbours, in the order of their tokens.
struct ExpertGroups {
  std::vector<int32_t> first;     // [experts + 1]: expert e has rows [first[e], first[e + 1])
  std::vector<int32_t> token_of;  // [rows]: row r's token
  std::vector<int32_t> row_of;    // [tokens * experts_per_token]: the row of a token's choice, in the token's order
};

// chosen is [tokens, experts_per_token], each in [0, experts). Reuses the memory of `groups`.
void GroupByExpert(const int32_t* chosen, int64_t tokens, int64_t experts_per_token, int64_t experts,
                   ExpertGroups& groups);

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_EXPERT_GROUPS_H_
