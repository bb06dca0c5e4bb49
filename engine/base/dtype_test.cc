#include "engine/base/dtype.h"

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(DTypeTest, ReadsBothSpellings) {
  EXPECT_EQ(*DTypeFromName("bf16"), DType::kBF16);
  EXPECT_EQ(*DTypeFromName("bfloat16"), DType::kBF16);
  EXPECT_EQ(*DTypeFromSafetensors("BF16"), DType::kBF16);
  EXPECT_EQ(DTypeBytes(DType::kF64), 8);
  EXPECT_EQ(DTypeName(DType::kF16), "fp16");
}

TEST(DTypeTest, NamesWhatItDoesNotKnow) {
  EXPECT_NE(DTypeFromName("int3").status().message().find("int3"), absl::string_view::npos);
  EXPECT_NE(DTypeFromSafetensors("F4").status().message().find("F4"), absl::string_view::npos);
}

}  // namespace
}  // namespace causeway
