// Measures how long operations take here by themselves. Predictions of whole steps rest on that.
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

// Times are medians of many runs.
struct OperationTimes {
  std::vector<WorkTime> linears;  // one row to several hundred, weights from memory
  std::vector<WorkTime>
      cached;  // the same for small linears whose weights stay in the processor's cache; empty where it has hardly any
  int64_t cache_bytes = 0;          // how many bytes of weights stay there in all
  std::vector<WorkTime> attention;  // decoding and prefill, keys and values from memory
  std::vector<WorkTime>
      rows;  // norms and activations over many rows; `bytes` are those of the rows that they read and write
};

// Runs linears of a model's usual shapes, and attention, on the device; that takes some seconds. It needs about 1 GiB
// of the device's memory; ResourceExhausted: the device has less. `threads`: how many an operation may use on the CPU.
absl::StatusOr<OperationTimes> MeasureOperations(const Device& device, DType dtype, const WeightFormat& format,
                                                 int threads, bool reference_ops);

// Bytes a second that one thread copies within memory, as hidden states go between devices that share it. It is 0 when
// there is no memory for the buffers.
double MeasureCopyBandwidth();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MEASURE_OPERATION_SPEED_H_
