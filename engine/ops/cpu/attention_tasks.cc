#include "engine/ops/cpu/attention_tasks.h"

#include <algorithm>

namespace causeway::cpu {
namespace {

// How many rows (queries times heads) a tile has at most. They are enough that packing keys and values is little beside
// multiplying with them, and few enough that scores and outputs stay in L2.
constexpr int64_t kTileRowsMax = 96;

}  // namespace

void MakeAttentionTasks(const std::vector<int32_t>& query_start, const std::vector<int32_t>& context_lens,
                        const AttentionShape& shape, int threads, AttentionTasks& out) {
  out.tasks.clear();
  out.merges.clear();
  out.partial_count = 0;
  out.row_max = 0;
  out.pairs = 0;
  const int64_t group = shape.heads / shape.kv_heads, tile = std::max<int64_t>(1, kTileRowsMax / group);
  int64_t whole_tasks = 0;
  for (size_t s = 0; s < context_lens.size(); ++s) {
    whole_tasks += (query_start[s + 1] - query_start[s] + tile - 1) / tile * shape.kv_heads;
  }
  const bool cut = whole_tasks < kAttentionTasksPerThread * threads && threads > 1;
  for (size_t s = 0; s < context_lens.size(); ++s) {
    const int64_t begin = query_start[s], end = query_start[s + 1];
    for (int64_t row = begin; row < end; row += tile) {
      const int64_t rows = std::min(tile, end - row);
      const int64_t last = context_lens[s] - end + row + rows - 1, oldest_row = last - rows + 1;
      const int64_t oldest = shape.window > 0 ? std::max<int64_t>(0, oldest_row - shape.window + 1) : 0;
      const int64_t split_first = oldest / kAttentionSplit, splits = last / kAttentionSplit + 1 - split_first;
      out.row_max = std::max(out.row_max, rows * group);
      out.pairs += rows * (last + 1 - oldest) * shape.heads;
      for (int64_t h = 0; h < shape.kv_heads; ++h) {
        AttentionTask task{static_cast<int32_t>(s),      static_cast<int32_t>(h),
                           static_cast<int32_t>(row),    static_cast<int32_t>(rows),
                           static_cast<int32_t>(last),   static_cast<int32_t>(split_first),
                           static_cast<int32_t>(splits), -1};
        if (!cut || end - begin > 1 || splits == 1) {
          out.tasks.push_back(task);
          continue;
        }
        out.merges.push_back(
            {static_cast<int32_t>(out.partial_count), static_cast<int32_t>(splits), task.row, task.kv_head});
        task.split_count = 1;
        for (int64_t i = 0; i < splits; ++i) {
          task.split_first = static_cast<int32_t>(split_first + i);
          task.partial = static_cast<int32_t>(out.partial_count++);
          out.tasks.push_back(task);
        }
      }
    }
  }
  const auto cost = [](const AttentionTask& t) {
    const int64_t keys =
        std::min<int64_t>(t.split_count * kAttentionSplit, t.last + 1 - t.split_first * kAttentionSplit);
    return keys * (t.rows + 4);  // packing keys and values counts like a few rows
  };
  std::stable_sort(out.tasks.begin(), out.tasks.end(),
                   [&](const AttentionTask& a, const AttentionTask& b) { return cost(a) > cost(b); });
}

}  // namespace causeway::cpu
