// Measures loading: how fast a checkpoint's weights get to their devices, and how much memory that takes.
#ifndef CAUSEWAY_SERVER_COMMANDS_BENCH_LOAD_H_
#define CAUSEWAY_SERVER_COMMANDS_BENCH_LOAD_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/execution/executor.h"
#include "engine/plan/plan.h"

namespace causeway {

// The best of some rounds. Each round reads the files alone and loads them, and the two take turns at going first.
// Fresh memory costs a machine more at one time than at another, and least just after much was given back.
struct LoadTimes {
  int threads = 0;
  int64_t bytes = 0;                  // read from the checkpoint
  double seconds = 0;                 // from the request for memory until all weights are in place
  double files_bytes_per_second = 0;  // what MeasureFileBandwidth says for as many threads
  int64_t weight_bytes = 0;           // as held, by the plan
  int64_t before_bytes = 0;           // resident memory when loading began
  int64_t peak_bytes = 0;             // the most resident memory while the model was loaded and warmed up
  double bytes_per_second() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

// Makes the plan's executor and destroys it, in every round. cold: the files are dropped from the page cache before
// each measurement; otherwise all measurements find them there.
absl::StatusOr<LoadTimes> MeasureLoad(const ModelSpec& spec, const Checkpoint& checkpoint, const Plan& plan,
                                      const ExecutorOptions& options, bool cold,
                                      const std::function<void(const LoadProgress&)>& progress);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_BENCH_LOAD_H_
