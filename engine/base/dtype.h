// Element types of checkpoint tensors and of computation.
#ifndef CAUSEWAY_ENGINE_BASE_DTYPE_H_
#define CAUSEWAY_ENGINE_BASE_DTYPE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes of one element.
int64_t DTypeBytes(DType dtype);
// The name that flags and tables use: "bf16", "fp32", "fp16", ...
absl::string_view DTypeName(DType dtype);
// Reads a name that safetensors uses ("BF16", "F32", "F8_E4M3", ...). InvalidArgument names an unknown one.
absl::StatusOr<DType> DTypeFromSafetensors(absl::string_view name);
// Reads the name of a floating type in a flag or in config.json: bf16, bfloat16, fp16, float16, half, fp32, float32,
// float.
absl::StatusOr<DType> DTypeFromName(absl::string_view name);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_DTYPE_H_
