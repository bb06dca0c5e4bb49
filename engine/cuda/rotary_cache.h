// Rotates queries and keys and writes keys and values to the paged KV cache, as a CUDA kernel. No torch here: raw
// device pointers and a stream.
#ifndef CAUSEWAY_ENGINE_CUDA_ROTARY_CACHE_H_
#define CAUSEWAY_ENGINE_CUDA_ROTARY_CACHE_H_

#include <cstdint>

#include <cuda_runtime_api.h>

#include "engine/cuda/cuda_dtype.h"

namespace causeway {

struct RotaryCacheArguments {
  CudaDType dtype;           // of qkv, and of keys and values where they have no scales
  void* qkv;                 // [rows, (heads + 2 * kv_heads) * head_dim]; queries are rotated in place
  const float* cos;          // [positions, pairs]
  const float* sin;          // the same
  int pairs;                 // (i, i + pairs) of each query and key are rotated; 0: none, and there are no tables
  const int64_t* positions;  // [rows]
  const int64_t* slots;      // [rows]: block * 16 + offset
  void* keys;                // [blocks, kv_heads, 16, head_dim]; int8 where there are scales
  void* values;              // the same
  float* key_scales;         // [blocks, kv_heads, 16], or null
  float* value_scales;
  int rows, heads, kv_heads, head_dim;  // 2 * pairs <= head_dim
};

// Queues the work on `stream` and returns; the result is the launch's error.
cudaError_t LaunchRotaryCache(const RotaryCacheArguments& arguments, cudaStream_t stream);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_ROTARY_CACHE_H_
