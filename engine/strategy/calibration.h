// What devices reach in practice: measured by `causewayd plan --calibrate`, or a stated share of what their makers say.
#ifndef CAUSEWAY_ENGINE_STRATEGY_CALIBRATION_H_
#define CAUSEWAY_ENGINE_STRATEGY_CALIBRATION_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/dtype.h"
#include "engine/base/work_time.h"
#include "engine/plan/catalogue.h"

namespace causeway {

// Of work that reads weights (or keys and values) and multiplies.
struct WorkSpeed {
  double bytes_per_second = 0;
  double flops = 0;    // a second, two for each multiply-add
  double overlap = 1;  // of the shorter of reading and computing, the part that hides behind the longer

  // max(reading, computing) where all of it hides, their sum where nothing does.
  double Seconds(double bytes, double flop) const;
};

// The rates and overlap under which these times are least off, in the mean square of their ratios. Needs a time or
// more, none of them 0.
WorkSpeed FitWorkSpeed(const std::vector<WorkTime>& times);

struct DeviceSpeed {
  std::map<std::string, WorkSpeed> linears;  // by what weights are held in: "bf16", "fp32", "int8", "int4", "fp8"
  WorkSpeed attention;
  double row_bytes_per_second = 0;   // of what is done to rows between linears: norms, rotations, activations
  double step_seconds = 0;           // of every step on a stage, whatever its work
  double layer_seconds = 0;          // of every layer on top of its work
  double sample_seconds = 0;         // of every row that gets a token
  double copy_bytes_per_second = 0;  // from host memory: offloaded weights
  double hand_over_seconds = 0;      // from a stage that is done with a step to the next one that begins with it
  int threads = 1;                   // of the processor, that these are measured with; of GPUs 1
  // Weights of no more bytes than this stay in the processor's cache from step to step. Models as small have small
  // linears, too: both make these differ from others. 0: none do.
  int64_t cache_bytes = 0;
  std::map<std::string, WorkSpeed> cached_linears;

  // For a device's part of a model, `weights` bytes held in `format`. Where that has no speed of its own, the dtype's,
  // then fp32's. Null: none of them has one.
  const WorkSpeed* Linears(const std::string& format, DType dtype, int64_t weights) const;
};

// By what Device::model says, catalogue names for GPUs that have one.
struct Calibration {
  std::map<std::string, DeviceSpeed> devices;
  double disk_bytes_per_second = 0;  // of this machine, read from by one thread; 0: not measured
};

// Shares of the makers' figures that are assumed of GPUs that were not measured; links reach theirs alike.
inline constexpr double kMemoryShare = 0.8, kFlopsShare = 0.5, kLinkShare = 0.8, kDiskShare = 0.8;
inline constexpr double kStepSeconds = 500e-6, kLayerSeconds = 15e-6, kSampleSeconds = 0, kHandOverSeconds = 50e-6;
DeviceSpeed AssumedSpeed(const CatalogueDevice& device);

std::string CalibrationJson(const Calibration& calibration);
// InvalidArgument names the entry that is missing or out of range; FailedPrecondition: of another version. `what` is
// the file.
absl::StatusOr<Calibration> ParseCalibration(absl::string_view text, absl::string_view what);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_CALIBRATION_H_
