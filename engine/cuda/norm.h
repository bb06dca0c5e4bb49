// RMSNorm and LayerNorm, with the residual added on the way, as a CUDA kernel. No torch here: raw device pointers and a
// stream.
#ifndef CAUSEWAY_ENGINE_CUDA_NORM_H_
#define CAUSEWAY_ENGINE_CUDA_NORM_H_

#include <cstdint>

#include <cuda_runtime_api.h>

#include "engine/cuda/cuda_dtype.h"

namespace causeway {

// Each row has `groups` neighbouring runs of `width` numbers, and each run is normed by itself.
struct NormArguments {
  CudaDType dtype;     // of all tensors; sums are fp32
  const void* x;       // [rows, stride]
  void* residual;      // null, or the same: residual += x first, and the norm is of the sum
  const void* weight;  // [width]
  const void* bias;    // [width] or null
  void* y;             // [rows, stride]; may be x
  int64_t stride;      // elements from row to row of x, residual and y
  int rows, groups, width;
  float eps;
  bool layer;          // LayerNorm; else RMSNorm
  bool rounded_first;  // the normed value is rounded to dtype before it meets the weight
};

// Queues the work on `stream` and returns; the result is the launch's error.
cudaError_t LaunchNorm(const NormArguments& arguments, cudaStream_t stream);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_NORM_H_
