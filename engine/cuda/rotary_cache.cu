// One warp takes one head of one row: a query, a key or a value. Products are rounded before they are added, as those
// of the reference are, so that what is cached is the same number.
#include "engine/base/kv_format.h"
#include "engine/base/limits.h"
#include "engine/cuda/device_numbers.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/rotary_cache.h"

namespace causeway {
namespace {

constexpr int kWarps = 4;

// The first and the second of a pair, rotated.
__device__ inline float RotatedFirst(float a, float b, float cos, float sin) {
  return __fsub_rn(__fmul_rn(a, cos), __fmul_rn(b, sin));
}
__device__ inline float RotatedSecond(float a, float b, float cos, float sin) {
  return __fadd_rn(__fmul_rn(b, cos), __fmul_rn(a, sin));
}

// Of two magnitudes. What is no number stays none.
__device__ inline float Larger(float a, float b) { return b > a || b != b ? b : a; }

// Grid: x rows, y heads in fours, from `first_head` on. Stored: what the cache holds, T or int8_t with scales.
template <typename T, typename Stored>
__global__ void __launch_bounds__(kWarps* kLanes) RotaryCache(const RotaryCacheArguments a, int first_head) {
  const int row = blockIdx.x, lane = threadIdx.x % kLanes;
  const int head = first_head + blockIdx.y * kWarps + threadIdx.x / kLanes;
  const int all_heads = a.heads + 2 * a.kv_heads;
  if (head >= all_heads) return;
  T* x = static_cast<T*>(a.qkv) + (static_cast<int64_t>(row) * all_heads + head) * a.head_dim;
  const bool is_key = head < a.heads + a.kv_heads;
  const int pairs = is_key ? a.pairs : 0;  // values stay as they are
  const int64_t angles = pairs == 0 ? 0 : a.positions[row] * pairs;
  const float *cos = a.cos + angles, *sin = a.sin + angles;
  if (head < a.heads) {
    for (int i = lane; i < pairs; i += kLanes) {
      const float first = ToFloat(x[i]), second = ToFloat(x[pairs + i]);
      x[i] = FromFloat<T>(RotatedFirst(first, second, cos[i], sin[i]));
      x[pairs + i] = FromFloat<T>(RotatedSecond(first, second, cos[i], sin[i]));
    }
    return;
  }

  const auto number = [&](int i) {
    if (i >= 2 * pairs) return ToFloat(x[i]);
    const int p = i < pairs ? i : i - pairs;
    const float first = ToFloat(x[p]), second = ToFloat(x[pairs + p]);
    return Rounded<T>(i < pairs ? RotatedFirst(first, second, cos[p], sin[p])
                                : RotatedSecond(first, second, cos[p], sin[p]));
  };
  const int64_t slot = a.slots[row];
  const int kv_head = (head - a.heads) % a.kv_heads;
  const int64_t place = (slot / kBlockTokens * a.kv_heads + kv_head) * kBlockTokens + slot % kBlockTokens;
  Stored* to = static_cast<Stored*>(is_key ? a.keys : a.values) + place * a.head_dim;
  if constexpr (sizeof(Stored) > 1) {
    for (int i = lane; i < a.head_dim; i += kLanes) to[i] = FromFloat<T>(number(i));
  } else {
    float largest = 0;
    for (int i = lane; i < a.head_dim; i += kLanes) largest = Larger(largest, fabsf(number(i)));
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
      largest = Larger(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    const float inverse = largest < kKvVanishing ? 0.f : 1.f / largest * kKvInt8Max;
    for (int i = lane; i < a.head_dim; i += kLanes)
      to[i] = static_cast<Stored>(__float2int_rn(__fmul_rn(number(i), inverse)));
    if (lane == 0) (is_key ? a.key_scales : a.value_scales)[place] = largest / kKvInt8Max;
  }
}

template <typename T>
cudaError_t Launch(const RotaryCacheArguments& a, cudaStream_t stream) {
  const int first_head = a.pairs > 0 ? 0 : a.heads, heads = a.heads + 2 * a.kv_heads - first_head;
  const dim3 grid(a.rows, (heads + kWarps - 1) / kWarps);
  if (a.key_scales != nullptr) {
    CAUSEWAY_LAUNCH(grid, kWarps * kLanes, 0, stream, RotaryCache<T, int8_t>)(a, first_head);
  } else {
    CAUSEWAY_LAUNCH(grid, kWarps * kLanes, 0, stream, RotaryCache<T, T>)(a, first_head);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchRotaryCache(const RotaryCacheArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0) return cudaSuccess;
  if (2 * arguments.pairs > arguments.head_dim) return cudaErrorInvalidValue;
  switch (arguments.dtype) {
    case CudaDType::kF32: return Launch<float>(arguments, stream);
    case CudaDType::kBF16: return Launch<__nv_bfloat16>(arguments, stream);
    case CudaDType::kF16: return Launch<__half>(arguments, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace causeway
