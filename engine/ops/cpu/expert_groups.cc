#include "engine/ops/cpu/expert_groups.h"

#include <c10/util/Exception.h>

namespace causeway::cpu {

void GroupByExpert(const int32_t* chosen, int64_t tokens, int64_t experts_per_token, int64_t experts,
                   ExpertGroups& groups) {
  const int64_t rows = tokens * experts_per_token;
  groups.first.assign(experts + 1, 0);
  for (int64_t i = 0; i < rows; ++i) {
    TORCH_CHECK_INDEX(chosen[i] >= 0 && chosen[i] < experts, "Experts: expert ", chosen[i], " was chosen of ", experts);
    ++groups.first[chosen[i] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) groups.first[e + 1] += groups.first[e];
  groups.token_of.resize(rows);
  groups.row_of.resize(rows);
  // first[e] counts up to the end of e's rows, which is where those of e + 1 begin.
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t row = groups.first[chosen[i]]++;
    groups.token_of[row] = static_cast<int32_t>(i / experts_per_token);
    groups.row_of[i] = row;
  }
  for (int64_t e = experts; e > 0; --e) groups.first[e] = groups.first[e - 1];
  groups.first[0] = 0;
}

}  // namespace causeway::cpu
