// The memory of one weight that its device does not hold: where its tensors are at the time, and who computes from them faster.
#ifndef CAUSEWAY_ENGINE_EXECUTION_OFFLOADED_WEIGHT_H_
#define CAUSEWAY_ENGINE_EXECUTION_OFFLOADED_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/execution/device_runtime.h"
#include "engine/model/stored_extents.h"

namespace causeway {

// Bytes of the tensors one after the other, each on a boundary of its own.
int64_t PackedBytes(const std::vector<at::Tensor>& tensors);
// They lie one after the other in `memory` from now on, or nowhere (null). What they had of their own is freed.
void PointAt(const std::vector<at::Tensor>& tensors, char* memory);

// What PointAt's memory is read from where a checkpoint has it as it is: `to` is an offset in that.
struct StoredPiece {
  FileExtent from;
  int64_t to = 0;
};
std::vector<StoredPiece> StoredPieces(const std::vector<std::vector<FileExtent>>& extents, const std::vector<at::Tensor>& tensors);

// Up to how many rows of x it is faster to compute from `host`, by the CPU, than to bring it to `staging` and compute on the device: measured
// with 1, 2, 4, ... rows. 0: not even one; INT64_MAX: any number. On the device's thread; waits for it.
struct CpuTrial {
  const LinearWeight& weight;  // points nowhere, also afterwards, where it is not `on_cpu`
  const LinearWeight& on_cpu;  // points at host, also afterwards
  char* host;
  char* staging;
};
int64_t MeasureCpuRows(DeviceRuntime& runtime, Ops& ops, at::ScalarType dtype, const CpuTrial& trial);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_OFFLOADED_WEIGHT_H_
