// Bounds that several parts must agree on, each in this one place.
#ifndef CAUSEWAY_ENGINE_BASE_LIMITS_H_
#define CAUSEWAY_ENGINE_BASE_LIMITS_H_

#include <cstdint>

namespace causeway {

inline constexpr int64_t kBlockTokens = 16;  // tokens in a block of the KV cache

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_LIMITS_H_
