// One thread block norms one run of numbers. It reads the run two or three times: for the sum, for LayerNorm's squares
// and for the result. All but the first find it in the multiprocessor's cache.
#include <algorithm>

#include "engine/cuda/device_numbers.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/norm.h"

namespace causeway {
namespace {

constexpr int kThreadsMax = 512;

// The sum over the block, the same for each thread.
__device__ inline float BlockSum(float x, float* warp_sums) {
  x = WarpSum(x);
  if (threadIdx.x % kLanes == 0) warp_sums[threadIdx.x / kLanes] = x;
  __syncthreads();
  float sum = 0;
  for (unsigned w = 0; w < blockDim.x / kLanes; ++w) sum += warp_sums[w];
  return sum;
}

// Grid: x runs. kPack: numbers that a thread takes at once; it divides the width, and what they lie at is aligned.
template <typename T, int kPack, bool kLayer>
__global__ void __launch_bounds__(kThreadsMax) Norm(const NormArguments a) {
  __shared__ float warp_sums[kThreadsMax / kLanes], warp_squares[kThreadsMax / kLanes];
  const int64_t first = blockIdx.x / a.groups * a.stride + blockIdx.x % a.groups * a.width;
  const T* x = static_cast<const T*>(a.x) + first;
  T* residual = a.residual == nullptr ? nullptr : static_cast<T*>(a.residual) + first;
  const T* weight = static_cast<const T*>(a.weight);
  const T* bias = static_cast<const T*>(a.bias);
  T* y = static_cast<T*>(a.y) + first;
  const int begin = threadIdx.x * kPack, step = blockDim.x * kPack;

  float sum = 0;  // of what is normed, or of its squares
  for (int i = begin; i < a.width; i += step) {
    Pack<T, kPack> numbers = LoadPack<T, kPack>(x + i);
    if (residual != nullptr) {
      const Pack<T, kPack> before = LoadPack<T, kPack>(residual + i);
#pragma unroll
      for (int j = 0; j < kPack; ++j) numbers.at[j] = FromFloat<T>(ToFloat(before.at[j]) + ToFloat(numbers.at[j]));
      StorePack(residual + i, numbers);
    }
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const float number = ToFloat(numbers.at[j]);
      sum += kLayer ? number : number * number;
    }
  }
  sum = BlockSum(sum, warp_sums);
  const T* normed = residual != nullptr ? residual : x;  // a thread reads again what it has written itself
  float mean = 0;
  if (kLayer) {
    mean = sum / a.width;
    float squares = 0;
    for (int i = begin; i < a.width; i += step) {
      const Pack<T, kPack> numbers = LoadPack<T, kPack>(normed + i);
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        const float off = ToFloat(numbers.at[j]) - mean;
        squares += off * off;
      }
    }
    sum = BlockSum(squares, warp_squares);
  }
  const float scale = rsqrtf(sum / a.width + a.eps);
  for (int i = begin; i < a.width; i += step) {
    Pack<T, kPack> numbers = LoadPack<T, kPack>(normed + i);
    const Pack<T, kPack> weights = LoadPack<T, kPack>(weight + i);
    Pack<T, kPack> shifts = weights;
    if (bias != nullptr) shifts = LoadPack<T, kPack>(bias + i);
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      float number = (ToFloat(numbers.at[j]) - mean) * scale;
      if (a.rounded_first) number = Rounded<T>(number);
      number *= ToFloat(weights.at[j]);
      if (bias != nullptr) number += ToFloat(shifts.at[j]);
      numbers.at[j] = FromFloat<T>(number);
    }
    StorePack(y + i, numbers);
  }
}

template <typename T, int kPack>
cudaError_t LaunchPacks(const NormArguments& a, cudaStream_t stream) {
  const int packs = a.width / kPack, warps = std::min(kThreadsMax, packs + kLanes - 1) / kLanes;
  const dim3 grid(static_cast<unsigned>(a.rows) * a.groups), block(warps * kLanes);
  if (a.layer) {
    CAUSEWAY_LAUNCH(grid, block, 0, stream, Norm<T, kPack, true>)(a);
  } else {
    CAUSEWAY_LAUNCH(grid, block, 0, stream, Norm<T, kPack, false>)(a);
  }
  return cudaGetLastError();
}

template <typename T>
cudaError_t Launch(const NormArguments& a, cudaStream_t stream) {
  constexpr int kPack = kPackMax<T>;
  const bool whole = a.width % kPack == 0 && a.stride % kPack == 0;
  if (whole && Packs(a.x) && Packs(a.residual) && Packs(a.weight) && Packs(a.bias) && Packs(a.y))
    return LaunchPacks<T, kPack>(a, stream);
  return LaunchPacks<T, 1>(a, stream);
}

}  // namespace

cudaError_t LaunchNorm(const NormArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.groups == 0 || arguments.width == 0) return cudaSuccess;
  switch (arguments.dtype) {
    case CudaDType::kF32: return Launch<float>(arguments, stream);
    case CudaDType::kBF16: return Launch<__nv_bfloat16>(arguments, stream);
    case CudaDType::kF16: return Launch<__half>(arguments, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace causeway
