// The nonlinearities of feed-forward parts, as a CUDA kernel. No torch here: raw device pointers and a stream.
#ifndef CAUSEWAY_ENGINE_CUDA_ACTIVATE_H_
#define CAUSEWAY_ENGINE_CUDA_ACTIVATE_H_

#include <cuda_runtime_api.h>

#include "engine/base/activation.h"
#include "engine/cuda/cuda_dtype.h"

namespace causeway {

struct ActivateArguments {
  CudaDType dtype;  // of x and y; computed in fp32
  Activation kind;
  bool gated;
  const void* x;  // [rows, width], or [rows, 2 * width] when gated: y = act(x[:, :width]) * x[:, width:]
  void* y;        // [rows, width]
  int rows, width;
};

// Queues the work on `stream` and returns; the result is the launch's error.
cudaError_t LaunchActivate(const ActivateArguments& arguments, cudaStream_t stream);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_ACTIVATE_H_
