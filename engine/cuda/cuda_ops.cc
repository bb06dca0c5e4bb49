#include "engine/cuda/cuda_ops.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace causeway {

cudaStream_t CudaOps::Stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

int CudaOps::Multiprocessors(const at::Device& device) {
  int count = 1;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device.index()));
  return count;
}

void CudaOps::Check(cudaError_t launched) { C10_CUDA_CHECK(launched); }

}  // namespace causeway
