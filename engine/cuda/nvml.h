// NVML, the driver's library for monitoring. It tells of GPUs without a context on them, which takes half a gigabyte of
// each and stays as long as the process. GPUs are named by Device::uuid. Any thread may call; a call takes
// milliseconds, and may take long where a GPU has fallen off its bus.
#ifndef CAUSEWAY_ENGINE_CUDA_NVML_H_
#define CAUSEWAY_ENGINE_CUDA_NVML_H_

#include <cstdint>
#include <optional>
#include <string>

#include "engine/device/gpu_reading.h"

namespace causeway {

// Bytes of the GPU (or of the MIG slice) that nobody holds. Nothing: there is no NVML, or it does not know the GPU.
std::optional<int64_t> NvmlFreeBytes(const std::string& uuid);

// All that NVML says of it now. Nothing as above.
std::optional<GpuReading> ReadGpu(const std::string& uuid);

// From now on the GPU's Xid errors that the driver calls critical are kept for ReadGpu and LastXid, whichever process
// they come from. Does nothing where NVML or the GPU does not tell them.
void WatchXids(const std::string& uuid);
// The code of the latest of them.
std::optional<int64_t> LastXid(const std::string& uuid);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_NVML_H_
