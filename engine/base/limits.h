// Bounds that several parts must agree on, each in this one place.
#ifndef CAUSEWAY_ENGINE_BASE_LIMITS_H_
#define CAUSEWAY_ENGINE_BASE_LIMITS_H_

#include <cstdint>

namespace causeway {

inline constexpr int64_t kBlockTokens = 16;  // tokens in a block of the KV cache
// How many blocks the tokens of one sequence take.
constexpr int64_t BlocksFor(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }
// The longest sequence that is served, even where the model's context is longer. The option's range ends here, too.
inline constexpr int64_t kModelLenMax = int64_t{1} << 24;

// What operations hold beside their inputs and results. Plans count it.
inline constexpr int64_t kLinearSlab = 128;      // fused linears copy inputs in multiples of this many 32-bit words
inline constexpr int64_t kAttentionSplit = 512;  // fused attention cuts a context after this many keys ...
inline constexpr int64_t kAttentionTasksPerThread = 4;  // ... where there would be fewer tasks than this otherwise
inline constexpr int64_t kReferenceQueryChunk = 256;    // queries whose scores the reference's attention holds at once
inline constexpr int64_t kCudaHeadDimMax = 256;         // for wider heads, CUDA uses the reference's attention, too
// The reference dequantizes this many weights at once, but no fewer outputs of a linear than kDequantizedOutputs.
inline constexpr int64_t kDequantizedElements = int64_t{1} << 22;
inline constexpr int64_t kDequantizedOutputs = 64;

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_LIMITS_H_
