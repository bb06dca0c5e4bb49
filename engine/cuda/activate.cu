// A thread takes neighbouring numbers of one row, as many as a load of 16 bytes brings, or one.
#include <algorithm>

#include "engine/cuda/activate.h"
#include "engine/cuda/device_numbers.h"
#include "engine/cuda/launch.h"

namespace causeway {
namespace {

constexpr int kThreadsMax = 256;

// As torch computes them.
__device__ inline float Activated(Activation kind, float x) {
  constexpr float kSqrtHalf = 0.70710678f, kSqrtTwoOverPi = 0.79788456f, kCubic = 0.044715f;
  switch (kind) {
    case Activation::kSilu: return x / (1.f + expf(-x));
    case Activation::kGelu: return x * 0.5f * (1.f + erff(x * kSqrtHalf));
    case Activation::kGeluTanh: return 0.5f * x * (1.f + tanhf(kSqrtTwoOverPi * (x + kCubic * (x * x * x))));
    case Activation::kRelu: return x < 0.f ? 0.f : x;  // what is no number stays none
  }
  return x;
}

// Grid: x rows times `pieces`, into which each row is cut.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreadsMax) Activate(const ActivateArguments a, int pieces) {
  const int64_t row = blockIdx.x / pieces;
  const int column = (blockIdx.x % pieces * blockDim.x + threadIdx.x) * kPack;
  if (column >= a.width) return;
  const T* x = static_cast<const T*>(a.x) + row * a.width * (a.gated ? 2 : 1) + column;
  Pack<T, kPack> numbers = LoadPack<T, kPack>(x);
  Pack<T, kPack> factors = numbers;
  if (a.gated) factors = LoadPack<T, kPack>(x + a.width);
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const float activated = Activated(a.kind, ToFloat(numbers.at[j]));
    numbers.at[j] = FromFloat<T>(a.gated ? activated * ToFloat(factors.at[j]) : activated);
  }
  StorePack(static_cast<T*>(a.y) + row * a.width + column, numbers);
}

template <typename T, int kPack>
cudaError_t LaunchPacks(const ActivateArguments& a, cudaStream_t stream) {
  const int packs = a.width / kPack, threads = std::min(kThreadsMax, (packs + kLanes - 1) / kLanes * kLanes);
  const int pieces = (packs + threads - 1) / threads;
  CAUSEWAY_LAUNCH(static_cast<unsigned>(a.rows) * pieces, threads, 0, stream, Activate<T, kPack>)(a, pieces);
  return cudaGetLastError();
}

template <typename T>
cudaError_t Launch(const ActivateArguments& a, cudaStream_t stream) {
  if (a.width % kPackMax<T> == 0 && Packs(a.x) && Packs(a.y)) return LaunchPacks<T, kPackMax<T>>(a, stream);
  return LaunchPacks<T, 1>(a, stream);
}

}  // namespace

cudaError_t LaunchActivate(const ActivateArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.width == 0) return cudaSuccess;
  switch (arguments.dtype) {
    case CudaDType::kF32: return Launch<float>(arguments, stream);
    case CudaDType::kBF16: return Launch<__nv_bfloat16>(arguments, stream);
    case CudaDType::kF16: return Launch<__half>(arguments, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace causeway
