// A CUDA device as the executor sees it.
#ifndef CAUSEWAY_ENGINE_CUDA_CUDA_RUNTIME_H_
#define CAUSEWAY_ENGINE_CUDA_CUDA_RUNTIME_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"

namespace causeway {

// These three are CudaLibrary's.
absl::StatusOr<std::vector<Device>> ListCudaDevices();
absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeCudaRuntime(const DevicePlan& plan, bool reference_ops);
CudaSystem DescribeCudaSystem();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_CUDA_RUNTIME_H_
