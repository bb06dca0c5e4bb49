// A measured piece of work.
#ifndef CAUSEWAY_ENGINE_BASE_WORK_TIME_H_
#define CAUSEWAY_ENGINE_BASE_WORK_TIME_H_

namespace causeway {

// What an operation reads (weights, or keys and values), what it computes (two for each multiply-add), and how long it
// takes.
struct WorkTime {
  double bytes = 0, flop = 0, seconds = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_WORK_TIME_H_
