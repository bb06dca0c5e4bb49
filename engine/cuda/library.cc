// The functions that the engine finds in this library (cuda_library.h).
#include "engine/cuda/cuda_runtime.h"
#include "engine/cuda/nvml.h"

extern "C" __attribute__((visibility("default"))) const causeway::CudaLibrary* causeway_cuda_library() {
  static const causeway::CudaLibrary library{causeway::ListCudaDevices, causeway::MakeCudaRuntime,
                                             causeway::DescribeCudaSystem, causeway::ReadGpu};
  return &library;
}
