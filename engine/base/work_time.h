// How long a piece of work took.
#ifndef CAUSEWAY_ENGINE_BASE_WORK_TIME_H_
#define CAUSEWAY_ENGINE_BASE_WORK_TIME_H_

namespace causeway {

// How many bytes an operation reads (weights, or keys and values), how many operations it computes (two for each
// multiply-add), and how long it takes.
struct WorkTime {
  double bytes = 0, flop = 0, seconds = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_WORK_TIME_H_
