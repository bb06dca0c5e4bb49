// The memory of one weight that its device does not hold: where its tensors are at the time, and who computes from them
// faster.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_OFFLOADED_WEIGHT_H_
#define CAUSEWAY_ENGINE_WEIGHTS_OFFLOADED_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/device/device_runtime.h"
#include "engine/weights/stored_extents.h"

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
std::vector<StoredPiece> StoredPieces(const std::vector<std::vector<FileExtent>>& extents,
                                      const std::vector<at::Tensor>& tensors);

// One weight to try.
struct CpuTrial {
  const LinearWeight* weight = nullptr;  // points nowhere afterwards, where it is not `on_cpu`
  const LinearWeight* on_cpu = nullptr;  // points at host, also afterwards
  char* host = nullptr;
};
// Up to how many rows of x it is faster to compute from `host`, by the CPU, than to bring that to `staging` and compute
// on the device: tried with 1, 2, 4, ... rows, as many as x and the result have `room` bytes for, with one weight after
// the other, so that a cache does not hold them. 0: not even one; INT64_MAX: any number. REQUIRES: weights of one
// shape, at least one. On the device's thread; waits for it.
int64_t MeasureCpuRows(DeviceRuntime& runtime, at::ScalarType dtype, const std::vector<CpuTrial>& trials, char* staging,
                       int64_t room);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_OFFLOADED_WEIGHT_H_
