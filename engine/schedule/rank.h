// The order in which requests start and in which their sequences are admitted; the last is preempted first.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_RANK_H_
#define CAUSEWAY_ENGINE_SCHEDULE_RANK_H_

#include <cstdint>

namespace causeway {

struct Rank {
  int32_t priority = 0;  // the higher comes first
  uint64_t arrival = 0;  // counts up; of equal priorities the earlier comes first

  friend bool operator<(const Rank& a, const Rank& b) {
    return a.priority != b.priority ? a.priority > b.priority : a.arrival < b.arrival;
  }
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_RANK_H_
