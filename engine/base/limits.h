// Bounds that several parts must agree on, each in this one place.
#ifndef CAUSEWAY_ENGINE_BASE_LIMITS_H_
#define CAUSEWAY_ENGINE_BASE_LIMITS_H_

#include <cstdint>

namespace causeway {

inline constexpr int64_t kBlockTokens = 16;  // tokens in a block of the KV cache
inline constexpr int64_t kModelLenMax =
    int64_t{1} << 24;  // of a sequence: what is served of longer contexts, and the range of the option

// What operations hold beside their inputs and results, as plans count it.
inline constexpr int64_t kLinearSlab = 128;      // fused linears copy their inputs in multiples of so many 32-bit words
inline constexpr int64_t kAttentionSplit = 512;  // keys of one cut of fused attention along the context ...
inline constexpr int64_t kAttentionTasksPerThread = 4;  // ... made where there would be fewer tasks than these
inline constexpr int64_t kReferenceQueryChunk = 256;    // queries whose scores the reference's attention holds at once
inline constexpr int64_t kCudaHeadDimMax = 256;         // above, attention on CUDA is the reference's too
inline constexpr int64_t kDequantizedElements = int64_t{1}
                                                << 22;  // the reference dequantizes so many weights at once ...
inline constexpr int64_t kDequantizedOutputs = 64;      // ... but no fewer outputs of a linear than these

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_LIMITS_H_
