// One thread block computes one row's attention for one key/value head (for the group of query heads that share it)
// over one part of the context. Its warps take every fourth token. A lane holds its share of the head's dimensions, so
// that a warp reads one key or value row as one coalesced stretch. Softmax is online (a running maximum and sum), in
// fp32.
#include <algorithm>
#include <cfloat>

#include "engine/cuda/device_numbers.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/paged_attention.h"

namespace causeway {
namespace {

constexpr int kWarps = 4;
constexpr int kBlockTokens = 16;
constexpr int kGroup = 4;  // query heads a block computes at once; larger groups take several blocks

// The sequence whose rows hold `row`.
__device__ inline int SequenceOf(const int32_t* query_start, int sequences, int row) {
  int low = 0, high = sequences;  // query_start[low] <= row < query_start[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (query_start[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// How many blocks a multiprocessor has room for at once. Left to itself, the compiler spills registers for more.
constexpr int BlocksAtOnce(int dims) { return dims == 2 ? 8 : dims == 4 ? 5 : 4; }

// Grid: x rows, y kv_heads * groups, z splits. kDims: how many dimensions a lane holds, head_dim <= 32 * kDims. Stored:
// what the cache holds, T or int8_t with scales, which are multiplied into scores and weights.
template <typename T, typename Stored, int kDims>
__global__ void __launch_bounds__(kWarps* kLanes, BlocksAtOnce(kDims)) Attend(const PagedAttentionArguments a) {
  const int row = blockIdx.x, split = blockIdx.z;
  const int group_size = a.heads / a.kv_heads;
  const int groups = (group_size + kGroup - 1) / kGroup;
  const int kv_head = blockIdx.y / groups;
  const int head_first = kv_head * group_size + (blockIdx.y % groups) * kGroup;
  const int heads = min(kGroup, (kv_head + 1) * group_size - head_first);
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;

  const int last = static_cast<int>(a.positions[row]);
  const int first = a.window > 0 ? max(0, last + 1 - a.window) : 0;
  const int part = (last + 1 - first + a.splits - 1) / a.splits;
  const int begin = first + split * part, end = min(begin + part, last + 1);
  const int32_t* table =
      a.block_tables + static_cast<int64_t>(SequenceOf(a.query_start, a.sequences, row)) * a.block_table_stride;

  const T* queries = static_cast<const T*>(a.queries) + row * a.query_stride;
  constexpr bool kScaled = sizeof(Stored) == 1;
  const Stored* keys = static_cast<const Stored*>(a.keys);
  const Stored* values = static_cast<const Stored*>(a.values);

  float query[kGroup][kDims], sum[kGroup][kDims], highest[kGroup], weight[kGroup];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    highest[g] = -FLT_MAX;
    weight[g] = 0;
#pragma unroll
    for (int d = 0; d < kDims; ++d) {
      const int dim = d * kLanes + lane;
      query[g][d] =
          g < heads && dim < a.head_dim ? ToFloat(queries[(head_first + g) * a.head_dim + dim]) * a.scale : 0.f;
      sum[g][d] = 0;
    }
  }

  for (int token = begin + warp; token < end; token += kWarps) {
    const int64_t place = (static_cast<int64_t>(table[token / kBlockTokens]) * a.kv_heads + kv_head) * kBlockTokens +
                          token % kBlockTokens;
    const int64_t cell = place * a.head_dim;
    const float key_scale = kScaled ? a.key_scales[place] : 1.f, value_scale = kScaled ? a.value_scales[place] : 1.f;
    float key[kDims], value[kDims];
#pragma unroll
    for (int d = 0; d < kDims; ++d) {
      const int dim = d * kLanes + lane;
      key[d] = dim < a.head_dim ? ToFloat(keys[cell + dim]) : 0.f;
      value[d] = dim < a.head_dim ? ToFloat(values[cell + dim]) : 0.f;
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (g >= heads) break;
      float dot = 0;
#pragma unroll
      for (int d = 0; d < kDims; ++d) dot += query[g][d] * key[d];
      const float score = WarpSum(dot) * key_scale;
      const float top = fmaxf(highest[g], score);
      const float fade = __expf(highest[g] - top), share = __expf(score - top);
      highest[g] = top;
      weight[g] = weight[g] * fade + share;
#pragma unroll
      for (int d = 0; d < kDims; ++d) sum[g][d] = sum[g][d] * fade + share * value_scale * value[d];
    }
  }

  // The first warp merges the results of all.
  __shared__ float shared_sum[kWarps][kGroup][kDims * kLanes];
  __shared__ float shared_highest[kWarps][kGroup], shared_weight[kWarps][kGroup];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
#pragma unroll
    for (int d = 0; d < kDims; ++d) shared_sum[warp][g][d * kLanes + lane] = sum[g][d];
    if (lane == 0) {
      shared_highest[warp][g] = highest[g];
      shared_weight[warp][g] = weight[g];
    }
  }
  __syncthreads();
  for (int g = warp; g < heads; g += kWarps) {
    float top = -FLT_MAX, total = 0;
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, shared_highest[w][g]);
    for (int w = 0; w < kWarps; ++w) total += shared_weight[w][g] * __expf(shared_highest[w][g] - top);
    const int head = head_first + g;
    const int64_t cell = (static_cast<int64_t>(row) * a.heads + head) * a.splits + split;
    float* partial = a.partial + cell * (a.head_dim + 2);
    for (int dim = lane; dim < a.head_dim; dim += kLanes) {
      float x = 0;
      for (int w = 0; w < kWarps; ++w) x += shared_sum[w][g][dim] * __expf(shared_highest[w][g] - top);
      if (a.splits == 1) {
        static_cast<T*>(a.output)[(static_cast<int64_t>(row) * a.heads + head) * a.head_dim + dim] =
            FromFloat<T>(x / total);
      } else {
        partial[2 + dim] = x;
      }
    }
    if (a.splits > 1 && lane == 0) {
      partial[0] = top;
      partial[1] = total;
    }
  }
}

// Merges the parts of a context. Grid: x rows, y heads.
template <typename T>
__global__ void __launch_bounds__(128) Merge(const PagedAttentionArguments a) {
  const int64_t cell = static_cast<int64_t>(blockIdx.x) * a.heads + blockIdx.y;
  const float* partial = a.partial + cell * a.splits * (a.head_dim + 2);
  float top = -FLT_MAX, total = 0;
  for (int s = 0; s < a.splits; ++s) top = fmaxf(top, partial[s * (a.head_dim + 2)]);
  for (int s = 0; s < a.splits; ++s) {
    total += partial[s * (a.head_dim + 2) + 1] * __expf(partial[s * (a.head_dim + 2)] - top);
  }
  for (int dim = threadIdx.x; dim < a.head_dim; dim += blockDim.x) {
    float x = 0;
    for (int s = 0; s < a.splits; ++s) {
      x += partial[s * (a.head_dim + 2) + 2 + dim] * __expf(partial[s * (a.head_dim + 2)] - top);
    }
    static_cast<T*>(a.output)[cell * a.head_dim + dim] = FromFloat<T>(x / total);
  }
}

template <typename T, typename Stored>
cudaError_t LaunchOver(const PagedAttentionArguments& a, cudaStream_t stream) {
  const int groups = (a.heads / a.kv_heads + kGroup - 1) / kGroup;
  const dim3 grid(a.rows, a.kv_heads * groups, a.splits);
  constexpr int kThreads = kWarps * kLanes;
  if (a.head_dim <= 64) {
    CAUSEWAY_LAUNCH(grid, kThreads, 0, stream, Attend<T, Stored, 2>)(a);
  } else if (a.head_dim <= 128) {
    CAUSEWAY_LAUNCH(grid, kThreads, 0, stream, Attend<T, Stored, 4>)(a);
  } else {
    CAUSEWAY_LAUNCH(grid, kThreads, 0, stream, Attend<T, Stored, 8>)(a);
  }
  if (a.splits > 1) CAUSEWAY_LAUNCH(dim3(a.rows, a.heads), 128, 0, stream, Merge<T>)(a);
  return cudaGetLastError();
}

template <typename T>
cudaError_t Launch(const PagedAttentionArguments& a, cudaStream_t stream) {
  return a.key_scales != nullptr ? LaunchOver<T, int8_t>(a, stream) : LaunchOver<T, T>(a, stream);
}

}  // namespace

int64_t PagedAttentionPartialFloats(int rows, int heads, int head_dim, int splits) {
  return splits == 1 ? 0 : static_cast<int64_t>(rows) * heads * splits * (head_dim + 2);
}

int PagedAttentionSplits(int rows, int kv_heads, int64_t context_max, int multiprocessors) {
  constexpr int kTokensMin = 256, kSplitsMax = 64;  // merging shorter parts costs more than they save
  const int64_t blocks = std::max<int64_t>(static_cast<int64_t>(rows) * kv_heads, 1);  // 1: a batch without rows
  const int64_t wanted = (2 * multiprocessors + blocks - 1) / blocks;
  return static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(wanted, context_max / kTokensMin), 1, kSplitsMax));
}

cudaError_t LaunchPagedAttention(const PagedAttentionArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0) return cudaSuccess;
  if (arguments.head_dim > 256 || arguments.heads % arguments.kv_heads != 0) return cudaErrorInvalidValue;
  switch (arguments.dtype) {
    case CudaDType::kF32: return Launch<float>(arguments, stream);
    case CudaDType::kBF16: return Launch<__nv_bfloat16>(arguments, stream);
    case CudaDType::kF16: return Launch<__half>(arguments, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace causeway
