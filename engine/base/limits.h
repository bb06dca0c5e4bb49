// Bounds that several parts must agree on, each in this one place.
#ifndef CAUSEWAY_ENGINE_BASE_LIMITS_H_
#define CAUSEWAY_ENGINE_BASE_LIMITS_H_

#include <cstdint>

namespace causeway {

inline constexpr int64_t kBlockTokens = 16;  // tokens in a block of the KV cache
// Blocks that so many tokens of one sequence take.
constexpr int64_t BlocksFor(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }
// Of a sequence: what is served of longer contexts, and the range of the option.
inline constexpr int64_t kModelLenMax = int64_t{1} << 24;

// What operations hold beside their inputs and results, as plans count it.
inline constexpr int64_t kLinearSlab = 128;      // fused linears copy their inputs in multiples of so many 32-bit words
inline constexpr int64_t kAttentionSplit = 512;  // keys of one cut of fused attention along the context ...
inline constexpr int64_t kAttentionTasksPerThread = 4;  // ... made where there would be fewer tasks than these
inline constexpr int64_t kReferenceQueryChunk = 256;    // queries whose scores the reference's attention holds at once
inline constexpr int64_t kCudaHeadDimMax = 256;         // above, attention on CUDA is the reference's too
// The reference dequantizes so many weights at once, but no fewer outputs of a linear than these.
inline constexpr int64_t kDequantizedElements = int64_t{1} << 22;
inline constexpr int64_t kDequantizedOutputs = 64;

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_LIMITS_H_
