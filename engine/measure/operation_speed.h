// How long operations take here, by themselves: what predictions of whole steps rest on.
#ifndef CAUSEWAY_ENGINE_MEASURE_OPERATION_SPEED_H_
#define CAUSEWAY_ENGINE_MEASURE_OPERATION_SPEED_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/dtype.h"
#include "engine/base/weight_format.h"
#include "engine/base/work_time.h"
#include "engine/plan/device.h"

namespace causeway {

// Medians of many.
struct OperationTimes {
  std::vector<WorkTime> linears;  // one row to several hundred, weights from memory
  std::vector<WorkTime>
      cached;  // the same of small linears whose weights stay in the processor's cache; empty: it has none to speak of
  int64_t cache_bytes = 0;          // that weights may have in all to stay there
  std::vector<WorkTime> attention;  // decoding and prefill, keys and values from memory
  std::vector<WorkTime>
      rows;  // norms and activations over many rows: `bytes` are those of the rows that they read and write
};

// Runs linears of a model's usual shapes and attention on the device, some seconds in all. Needs about 1 GiB of its
// memory. ResourceExhausted: it has less. `threads`: as many as an operation may use on the CPU.
absl::StatusOr<OperationTimes> MeasureOperations(const Device& device, DType dtype, const WeightFormat& format,
                                                 int threads, bool reference_ops);

// Bytes a second copied within memory by one thread, as hidden states go between devices that share it. 0: no memory
// for the buffers.
double MeasureCopyBandwidth();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MEASURE_OPERATION_SPEED_H_
