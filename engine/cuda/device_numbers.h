// Numbers as kernels load, compute and store them. Only .cu files include this.
#ifndef CAUSEWAY_ENGINE_CUDA_DEVICE_NUMBERS_H_
#define CAUSEWAY_ENGINE_CUDA_DEVICE_NUMBERS_H_

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace causeway {

constexpr int kLanes = 32;

__device__ inline float ToFloat(float x) { return x; }
__device__ inline float ToFloat(int8_t x) { return static_cast<float>(x); }
__device__ inline float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float ToFloat(__half x) { return __half2float(x); }
template <typename T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16(x);
}
template <>
__device__ inline __half FromFloat<__half>(float x) {
  return __float2half(x);
}
// What is left of x once it is stored as a T.
template <typename T>
__device__ inline float Rounded(float x) {
  return ToFloat(FromFloat<T>(x));
}

// Numbers that are loaded and stored at once.
template <typename T, int n>
struct alignas(sizeof(T) * n) Pack {
  T at[n];
};
constexpr int kPackBytes = 16;  // of the widest
template <typename T>
constexpr int kPackMax = kPackBytes / static_cast<int>(sizeof(T));
template <typename T, int n>
__device__ inline Pack<T, n> LoadPack(const T* from) {
  return *reinterpret_cast<const Pack<T, n>*>(from);
}
template <typename T, int n>
__device__ inline void StorePack(T* to, const Pack<T, n>& pack) {
  *reinterpret_cast<Pack<T, n>*>(to) = pack;
}
// Whether the widest packs can be loaded from there.
inline bool Packs(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kPackBytes == 0; }

__device__ inline float WarpSum(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_DEVICE_NUMBERS_H_
