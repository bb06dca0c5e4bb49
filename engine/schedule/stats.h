// What a scheduler tells of itself.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_STATS_H_
#define CAUSEWAY_ENGINE_SCHEDULE_STATS_H_

#include <cstdint>

namespace causeway {

struct SchedulerStats {
  int64_t running = 0, waiting = 0;                              // sequences; a preempted one waits
  int64_t blocks_total = 0, blocks_used = 0, blocks_cached = 0;  // a cached block is unused, but holds a prefix
  int64_t preemptions = 0;                                       // since the start, as are the next two
  // The prompt tokens of admitted sequences, and how many of them came from the cache. A sequence that waited for
  // another one of its request counts in neither: it always finds that one's prompt.
  int64_t prefix_query_tokens = 0, prefix_hit_tokens = 0;
  int64_t steps_unapplied = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_STATS_H_
