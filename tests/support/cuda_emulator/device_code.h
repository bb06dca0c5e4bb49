// What a .cu file sees of CUDA where it is compiled as C++ for the emulator: the compiler puts this in front of it.
// Types and half precision are those of CUDA's own headers, which also work on the host. What is missing here does not
// compile, and is to be added when a kernel first needs it.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_DEVICE_CODE_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_DEVICE_CODE_H_

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include "tests/support/cuda_emulator/emulator.h"

// Blocks run one after the other, so that static variables can stand for their shared memory. They share a section for
// RunGrid to poison; kernels and what they call stand in unnamed namespaces, since templates that the linker could
// share cannot be in it.
#undef __shared__
#define __shared__ static __attribute__((section("causeway_shared")))
#define CAUSEWAY_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::causeway::cuda_emulator::DynamicShared())
#define CAUSEWAY_LAUNCH(grid, block, shared_bytes, stream, ...) \
  ::causeway::cuda_emulator::Launcher(#__VA_ARGS__, grid, block, shared_bytes, stream, __VA_ARGS__)
#undef __launch_bounds__
#define __launch_bounds__(...)

// Those of the thread that runs.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace causeway::cuda_emulator {

template <typename... Parameters>
auto Launcher(const char* name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
              void (*kernel)(Parameters...)) {
  return
      [=](const Parameters&... arguments) { RunGrid(name, grid, block, shared_bytes, [&] { kernel(arguments...); }); };
}

template <typename T>
T Shuffle(const char* call, uint32_t mask, T value, int source, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = RunningBlock()->Exchange(call, mask, bits, source, line);
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

// Changes *at to `next` of it as one step, and gives what was there before.
template <typename T, typename Next>
T Atomic(T* at, const Next& next) {
  RunningBlock()->MayYield();
  CountAtomic();
  const T before = *at;
  *at = next(before);
  return before;
}

}  // namespace causeway::cuda_emulator

// The last parameter tells where the call stands.
inline void __syncthreads(int line = __builtin_LINE()) { ::causeway::cuda_emulator::RunningBlock()->Barrier(line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  ::causeway::cuda_emulator::Block* block = ::causeway::cuda_emulator::RunningBlock();
  block->Exchange("__syncwarp", mask, 0, block->lane(), line);
}

// Lanes exchange within runs of `width` lanes, a power of two; one that would read beyond its run gets its own value.
template <typename T>
T __shfl_sync(unsigned mask, T x, int source, int width = 32, int line = __builtin_LINE()) {
  const int lane = ::causeway::cuda_emulator::RunningBlock()->lane(), first = lane & -width;
  return ::causeway::cuda_emulator::Shuffle("__shfl_sync", mask, x, first + (source & (width - 1)), line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const int lane = ::causeway::cuda_emulator::RunningBlock()->lane(), other = lane - static_cast<int>(delta);
  return ::causeway::cuda_emulator::Shuffle("__shfl_up_sync", mask, x, other >= (lane & -width) ? other : lane, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const int lane = ::causeway::cuda_emulator::RunningBlock()->lane(), other = lane + static_cast<int>(delta);
  const int end = (lane & -width) + width;
  return ::causeway::cuda_emulator::Shuffle("__shfl_down_sync", mask, x, other < end ? other : lane, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int with, int width = 32, int line = __builtin_LINE()) {
  const int lane = ::causeway::cuda_emulator::RunningBlock()->lane(), other = lane ^ with;
  const int end = (lane & -width) + width;
  return ::causeway::cuda_emulator::Shuffle("__shfl_xor_sync", mask, x, other < end ? other : lane, line);
}

template <typename T>
T atomicAdd(T* at, T x) {
  return ::causeway::cuda_emulator::Atomic(at, [x](T before) { return before + x; });
}
template <typename T>
T atomicMax(T* at, T x) {
  return ::causeway::cuda_emulator::Atomic(at, [x](T before) { return std::max(before, x); });
}
template <typename T>
T atomicExch(T* at, T x) {
  return ::causeway::cuda_emulator::Atomic(at, [x](T) { return x; });
}
template <typename T>
T atomicCAS(T* at, T expected, T x) {
  return ::causeway::cuda_emulator::Atomic(at, [=](T before) { return before == expected ? x : before; });
}

using std::max;
using std::min;
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
// Rounded by themselves, where a compiler could otherwise make one operation of two.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
// To the nearest, ties to even, and no further than integers go; 0 where x is no number.
inline int __float2int_rn(float x) {
  if (x != x) return 0;
  if (x >= 0x1p31f) return INT_MAX;
  return x < -0x1p31f ? INT_MIN : static_cast<int>(std::nearbyint(x));
}
template <typename T>
T __ldg(const T* at) {
  return *at;
}

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_DEVICE_CODE_H_
