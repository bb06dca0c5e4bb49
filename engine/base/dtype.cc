#include "engine/base/dtype.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

struct Row {
  DType dtype;
  int bytes;
  const char* name;
  const char* safetensors;
};
constexpr Row kRows[] = {
    {DType::kF64, 8, "fp64", "F64"},       {DType::kF32, 4, "fp32", "F32"},
    {DType::kF16, 2, "fp16", "F16"},       {DType::kBF16, 2, "bf16", "BF16"},
    {DType::kF8E4M3, 1, "fp8", "F8_E4M3"}, {DType::kF8E5M2, 1, "fp8_e5m2", "F8_E5M2"},
    {DType::kI64, 8, "int64", "I64"},      {DType::kI32, 4, "int32", "I32"},
    {DType::kI16, 2, "int16", "I16"},      {DType::kI8, 1, "int8", "I8"},
    {DType::kU8, 1, "uint8", "U8"},        {DType::kBool, 1, "bool", "BOOL"},
};

}  // namespace

int64_t DTypeBytes(DType dtype) { return kRows[static_cast<int>(dtype)].bytes; }
absl::string_view DTypeName(DType dtype) { return kRows[static_cast<int>(dtype)].name; }

absl::StatusOr<DType> DTypeFromSafetensors(absl::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.safetensors) return row.dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown dtype \"", name, "\""));
}

absl::StatusOr<DType> DTypeFromName(absl::string_view name) {
  if (name == "bf16" || name == "bfloat16") return DType::kBF16;
  if (name == "fp16" || name == "float16" || name == "half") return DType::kF16;
  if (name == "fp32" || name == "float32" || name == "float") return DType::kF32;
  return absl::InvalidArgumentError(absl::StrCat(
      "dtype \"", name, "\" is not supported; expected bf16, fp16 or fp32 (or bfloat16, float16, float32)"));
}

}  // namespace causeway
