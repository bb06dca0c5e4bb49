// NVML, the driver's library for monitoring. It tells of GPUs without a context on them, which takes half a gigabyte of
// each and stays as long as the process.
#ifndef CAUSEWAY_ENGINE_CUDA_NVML_H_
#define CAUSEWAY_ENGINE_CUDA_NVML_H_

#include <cstdint>
#include <optional>

#include <cuda_runtime_api.h>

namespace causeway {

// Bytes of the GPU (or of the MIG slice) that nobody holds. Nothing: there is no NVML, or it does not know the GPU. Any
// thread.
std::optional<int64_t> NvmlFreeBytes(const cudaUUID_t& uuid);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_NVML_H_
