// Attention over the paged KV cache, as a CUDA kernel. No torch here: raw device pointers and a stream.
#ifndef CAUSEWAY_ENGINE_CUDA_PAGED_ATTENTION_H_
#define CAUSEWAY_ENGINE_CUDA_PAGED_ATTENTION_H_

#include <cstdint>

#include <cuda_runtime_api.h>

#include "engine/cuda/cuda_dtype.h"

namespace causeway {

struct PagedAttentionArguments {
  CudaDType dtype;          // type of queries and output, and of keys and values where they have no scales
  const void* queries;      // [rows, query_stride]; heads * head_dim of each row are read
  int64_t query_stride;     // elements
  const void* keys;         // [blocks, kv_heads, 16, head_dim]; int8 where there are scales
  const void* values;       // the same
  const float* key_scales;  // [blocks, kv_heads, 16], or null
  const float* value_scales;
  void* output;                 // [rows, heads * head_dim]
  const int64_t* positions;     // [rows]: row r attends to positions [0, positions[r]]
  const int32_t* block_tables;  // [sequences, block_table_stride]
  const int32_t* query_start;   // [sequences + 1]
  int rows, sequences, block_table_stride;
  int heads, kv_heads, head_dim;  // heads % kv_heads == 0; head_dim <= 256
  int window;                     // 0: none; otherwise a row attends to itself and to the window - 1 before it
  float scale;
  // Long contexts are cut into `splits` parts that run at once and are then merged. With more than one part, `partial`
  // holds PagedAttentionPartialFloats(...) floats.
  int splits;
  float* partial;
};

int64_t PagedAttentionPartialFloats(int rows, int heads, int head_dim, int splits);
// How many parts keep `multiprocessors` busy for the longest context of the batch.
int PagedAttentionSplits(int rows, int kv_heads, int64_t context_max, int multiprocessors);

// Queues the work on `stream` and returns; the result is the launch's error.
cudaError_t LaunchPagedAttention(const PagedAttentionArguments& arguments, cudaStream_t stream);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_PAGED_ATTENTION_H_
