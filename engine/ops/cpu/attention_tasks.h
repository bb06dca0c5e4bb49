// Cuts the attention of a step into pieces of work for threads.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_ATTENTION_TASKS_H_
#define CAUSEWAY_ENGINE_OPS_CPU_ATTENTION_TASKS_H_

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/kernels.h"

namespace causeway::cpu {

struct AttentionTasks {
  std::vector<AttentionTask> tasks;  // the most work first
  std::vector<AttentionMerge> merges;
  int64_t partial_count = 0;
  int64_t row_max = 0;  // queries times heads of a group, in the largest task
  int64_t pairs = 0;    // pairs of a query head and a key, which measure the work
};

struct AttentionShape {
  int64_t heads, kv_heads, window;
};

// query_start [sequences + 1] and context_lens [sequences] are as in AttentionBatch. Makes tiles of queries for each
// key-value head. Single queries of long contexts are cut along the context, too, when there would be too few tasks for
// `threads`.
void MakeAttentionTasks(const std::vector<int32_t>& query_start, const std::vector<int32_t>& context_lens,
                        const AttentionShape& shape, int threads, AttentionTasks& out);

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_ATTENTION_TASKS_H_
