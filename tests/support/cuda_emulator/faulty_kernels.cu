#include <cuda_fp16.h>

#include "engine/cuda/launch.h"
#include "tests/support/cuda_emulator/faulty_kernels.h"

namespace causeway::cuda_emulator {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

// Sums over a block twice: once by shuffles and static shared memory, once over the dynamic shared memory.
__global__ void __launch_bounds__(kThreads) Sums(Planted planted, const float* input, float* output) {
  __shared__ float warp_sums[kWarps];
  CAUSEWAY_DYNAMIC_SHARED(float, all);
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int first = blockIdx.x * kThreads;
  const auto is = [planted](Planted which) { return planted == which; };

  const float x =
      is(Planted::kMisaligned) ? reinterpret_cast<const float4*>(input + first + 1)->x : input[first + thread];
  if (is(Planted::kWriteToInput) && thread == 77) const_cast<float*>(input)[first] = 1;
  if (is(Planted::kEndedEarly) && thread == 5) return;
  if (is(Planted::kMaskOfEnded) && thread == 40) return;
  if (is(Planted::kMaskOfMissing) && lane >= 16) __syncthreads();
  unsigned mask = 0xffffffffu;
  if (is(Planted::kMaskWithoutSelf)) mask = 0x7fffffffu;
  if (is(Planted::kDifferentMasks) && lane >= 16) mask = 0xffff0000u;
  if (is(Planted::kReadsLaneOutside)) mask = lane < 24 ? 0x00ffffffu : 0xff000000u;

  float sum = is(Planted::kUninitializedShared) ? x + all[thread] : x;
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(mask, sum, offset);
  if (lane == 0) warp_sums[warp + (is(Planted::kSharedOverrun) ? 1 : 0)] = sum;
  all[thread + (is(Planted::kDynamicOverrun) ? 1 : 0)] = x;
  if (is(Planted::kBarrierOfSome)) {
    if (thread < 64) __syncthreads();
  } else if (is(Planted::kTwoBarriers)) {
    if (thread < 64) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if (!is(Planted::kMissingBarrier)) {
    __syncthreads();
  }
  float total = 0, again = 0;
  for (int w = 0; w < kWarps; ++w) total += warp_sums[w];
  if (!is(Planted::kLateBarrier)) __syncthreads();
  if (lane == 0) warp_sums[warp] = 0;
  for (int t = 0; t < kThreads; ++t) again += all[t];
  __syncwarp();
  if (is(Planted::kNotAtomic)) {
    if (thread == 0) all[0] = 0;
    __syncthreads();
    const float before = all[0];
    __syncwarp();
    all[0] = before + x;
    __syncthreads();
    again = all[0];
  }
  int at = first + thread;
  if (is(Planted::kGlobalOverrun)) at += 1;
  if (is(Planted::kGlobalUnderrun)) at -= 1;
  output[at] = (total + again) / 2;
}

__global__ void Nothing() {}

__global__ void Lanes(LaneResults* results) {
  const int lane = threadIdx.x;
  constexpr unsigned kAll = 0xffffffffu;
  results->from[0][lane] = __shfl_sync(kAll, lane, 3, 8);
  results->from[1][lane] = __shfl_up_sync(kAll, lane, 2, 16);
  results->from[2][lane] = __shfl_down_sync(kAll, lane, 5);
  results->from[3][lane] = __shfl_xor_sync(kAll, lane, 4);
  results->from[4][lane] = static_cast<int>(__half2float(__shfl_xor_sync(kAll, __float2half(lane), 1)));
}

__global__ void Atomics(int* sum, int* largest, int* lock, int* guarded) {
  atomicAdd(sum, 1);
  atomicMax(largest, static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
  while (atomicCAS(lock, 0, 1) != 0) {
  }
  *guarded += 1;
  atomicExch(lock, 0);
}

}  // namespace

cudaError_t LaunchSums(Planted planted, const float* input, float* output, int blocks) {
  CAUSEWAY_LAUNCH(dim3(blocks), dim3(kThreads), kThreads * sizeof(float), nullptr, Sums)(planted, input, output);
  return cudaGetLastError();
}

cudaError_t LaunchNothing(dim3 grid, dim3 block, size_t shared_bytes) {
  CAUSEWAY_LAUNCH(grid, block, shared_bytes, nullptr, Nothing)();
  return cudaGetLastError();
}

cudaError_t LaunchLanes(LaneResults* results) {
  CAUSEWAY_LAUNCH(1, 32, 0, nullptr, Lanes)(results);
  return cudaGetLastError();
}

cudaError_t LaunchAtomics(int* sum, int* largest, int* lock, int* guarded, int blocks) {
  CAUSEWAY_LAUNCH(blocks, 96, 0, nullptr, Atomics)(sum, largest, lock, guarded);
  return cudaGetLastError();
}

}  // namespace causeway::cuda_emulator
