// Runs the nonlinearities' kernel on the CPU (tests/support/cuda_emulator) and compares it with ReferenceOps.
#include "engine/cuda/activate.h"

#include <iostream>
#include <limits>
#include <utility>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/cuda/testing.h"
#include "engine/ops/ops_testing.h"
#include "engine/ops/reference.h"
#include "tests/support/cuda_emulator/emulator.h"

namespace causeway {
namespace {

using testing::KernelType;
using testing::kKernelTypes;
using testing::SameButForTheLastPlace;
using testing::WatchedTensors;

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

class ActivateTest : public ::testing::Test {
 protected:
  void SetUp() override { cuda_emulator::Restart(); }
  static void TearDownTestSuite() { std::cout << cuda_emulator::TakeCounts(); }

  void ExpectReference(const at::Tensor& numbers, Activation kind, bool gated, int64_t shift = 0,
                       int64_t result_shift = 0) {
    SCOPED_TRACE(absl::StrCat(numbers.size(0), " rows of ", numbers.size(1), " in ",
                              c10::toString(numbers.scalar_type()), ", activation ", static_cast<int>(kind),
                              gated ? ", gated" : "", ", shift ", shift));
    WatchedTensors watched;
    const int64_t rows = numbers.size(0), width = gated ? numbers.size(1) / 2 : numbers.size(1);
    const at::Tensor x = watched.Input("x", numbers, shift);
    const at::Tensor y = watched.Output("y", at::full({rows, width}, kNan, numbers.options()), result_shift);
    EXPECT_EQ(LaunchActivate({KernelType(x.scalar_type()), kind, gated, x.const_data_ptr(), y.mutable_data_ptr(),
                              static_cast<int>(rows), static_cast<int>(width)},
                             nullptr),
              cudaSuccess);
    EXPECT_EQ(cuda_emulator::TakeFault(), "");
    if (y.numel() == 0) return;
    // The GELUs of negative numbers are what is left of 1 less nearly 1.
    const double blur = kind == Activation::kGelu || kind == Activation::kGeluTanh ? 2e-6 : 1e-30;
    EXPECT_TRUE(SameButForTheLastPlace(y, reference_.Activate(numbers, kind, gated), blur));
  }

  const std::vector<Activation> kinds_ = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                                          Activation::kRelu};
  c10::InferenceMode guard_;
  testing::Random random_{22};
  ReferenceOps reference_;
};

TEST_F(ActivateTest, WidthsInEveryType) {
  for (const int64_t width : {1, 2, 7, 8, 9, 31, 32, 33, 255, 256, 264, 2048, 2056, 2500}) {
    for (const at::ScalarType dtype : kKernelTypes) {
      for (const Activation kind : kinds_) {
        ExpectReference(random_.Tensor({2, 2 * width}, dtype), kind, /*gated=*/true);
        ExpectReference(random_.Tensor({2, width}, dtype, 4), kind, /*gated=*/false);
      }
    }
  }
}

TEST_F(ActivateTest, NoRowsOneRowAndMany) {
  for (const int64_t rows : {0, 1, 33, 900}) {
    for (const bool gated : {false, true}) {
      ExpectReference(random_.Tensor({rows, 48}, at::kBFloat16), Activation::kSilu, gated);
    }
  }
}

TEST_F(ActivateTest, WhatIsNotAligned) {
  for (const at::ScalarType dtype : kKernelTypes) {
    for (const auto& [shift, result_shift] : {std::pair(1, 0), {0, 1}, {3, 3}})
      ExpectReference(random_.Tensor({3, 64}, dtype), Activation::kSilu, /*gated=*/true, shift, result_shift);
  }
}

TEST_F(ActivateTest, TheEndsOfNumbers) {
  // Of infinity, the reference's exact GELU makes no number where libraries of the CPU compute it.
  const at::Tensor ends =
      at::tensor({0.f, -0.f, 1e-30f, -1e-30f, 20.f, -20.f, 90.f, -90.f, 1e4f, -1e4f, kNan, 3.f, -3.f}).unsqueeze(0);
  for (const at::ScalarType dtype : kKernelTypes) {
    for (const Activation kind : kinds_) {
      ExpectReference(ends.to(dtype), kind, /*gated=*/false);
      const at::Tensor x = at::full({1}, kInfinity, dtype), y = at::full({1}, 0, dtype);
      EXPECT_EQ(
          LaunchActivate({KernelType(dtype), kind, false, x.const_data_ptr(), y.mutable_data_ptr(), 1, 1}, nullptr),
          cudaSuccess);
      EXPECT_FALSE(y.isfinite().item<bool>()) << "a step's end has to find what has overflowed";
    }
  }
}

}  // namespace
}  // namespace causeway
