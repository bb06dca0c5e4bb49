// The types that kernels compute in.
#ifndef CAUSEWAY_ENGINE_CUDA_CUDA_DTYPE_H_
#define CAUSEWAY_ENGINE_CUDA_CUDA_DTYPE_H_

namespace causeway {

enum class CudaDType { kF32, kBF16, kF16 };

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_CUDA_DTYPE_H_
