// Numbers that no weight should be.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_NOT_FINITE_H_
#define CAUSEWAY_ENGINE_WEIGHTS_NOT_FINITE_H_

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace causeway {

// How many of a contiguous CPU tensor's values are NaN or infinite: bf16, fp16 and fp32; 0 of other dtypes, which are
// not read as numbers.
int64_t CountNotFinite(const at::Tensor& values);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_NOT_FINITE_H_
