#include "engine/weights/scalar_type.h"

#include "absl/strings/str_cat.h"

namespace causeway {

absl::StatusOr<at::ScalarType> ScalarTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32: return at::kFloat;
    case DType::kF16: return at::kHalf;
    case DType::kBF16: return at::kBFloat16;
    default:
      return absl::UnimplementedError(
          absl::StrCat("tensors of dtype ", DTypeName(dtype), " are not supported: bf16, fp16 and fp32 are"));
  }
}

}  // namespace causeway
