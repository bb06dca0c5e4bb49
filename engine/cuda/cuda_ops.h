// Operations on a CUDA device.
#ifndef CAUSEWAY_ENGINE_CUDA_CUDA_OPS_H_
#define CAUSEWAY_ENGINE_CUDA_CUDA_OPS_H_

#include "engine/cuda/kernel_ops.h"

namespace causeway {

class CudaOps final : public KernelOps {
 public:
  CudaOps() : KernelOps(at::kCUDA) {}

 protected:
  cudaStream_t Stream() override;
  int Multiprocessors(const at::Device& device) override;
  void Check(cudaError_t launched) override;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_CUDA_OPS_H_
