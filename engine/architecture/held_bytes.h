// What weights take in memory with whoever computes from them, padding included.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_HELD_BYTES_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_HELD_BYTES_H_

#include <cstdint>
#include <functional>

#include "engine/architecture/spec.h"

namespace causeway {

// Bytes of all that one linear holds: weights, scales, zeros, the order of inputs, biases.
using LinearBytes = std::function<int64_t(const LinearSpec& linear)>;

// Has the module tree count `bytes` for each linear and table, tied ones once. What they take beyond their tensors' own
// bytes (parts of a linear are padded together) is added to the first one's.
void CountHeldBytes(const LinearBytes& bytes, ModelSpec& spec);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_HELD_BYTES_H_
