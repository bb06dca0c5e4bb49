// Runs the norms' kernel on the CPU (tests/support/cuda_emulator) and compares it with ReferenceOps.
#include "engine/cuda/norm.h"

#include <iostream>
#include <limits>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
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

constexpr double kEps = 1e-5;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  int64_t rows = 3, width = 64;
  at::ScalarType dtype = at::kFloat;
  bool residual = false, layer = false, bias = false;
  int64_t shift = 0;      // of what is aligned:
  std::string shifted{};  // these tensors; none: all
  double deviation = 1;   // of x
};

class NormTest : public ::testing::Test {
 protected:
  void SetUp() override { cuda_emulator::Restart(); }
  static void TearDownTestSuite() { std::cout << cuda_emulator::TakeCounts(); }

  static void Run(const NormArguments& a) {
    EXPECT_EQ(LaunchNorm(a, nullptr), cudaSuccess);
    EXPECT_EQ(cuda_emulator::TakeFault(), "");
  }

  void ExpectReference(const Shape& s) {
    SCOPED_TRACE(absl::StrCat(s.rows, " rows of ", s.width, " in ", c10::toString(s.dtype),
                              s.residual ? ", residual" : "", s.layer ? ", LayerNorm" : "", s.bias ? ", bias" : "",
                              ", shift ", s.shift, " of ", s.shifted, ", deviation ", s.deviation));
    WatchedTensors watched;
    const auto shift = [&s](const char* name) { return s.shifted.empty() || s.shifted == name ? s.shift : 0; };
    at::Tensor x = random_.Tensor({s.rows, s.width}, s.dtype, s.deviation), residual, bias;
    at::Tensor weight = random_.Tensor({s.width}, s.dtype);
    if (s.residual) residual = random_.Tensor({s.rows, s.width}, s.dtype);
    if (s.bias) bias = random_.Tensor({s.width}, s.dtype);
    at::Tensor y = at::full({s.rows, s.width}, kNan, s.dtype);
    x = watched.Input("x", x, shift("x"));
    weight = watched.Input("weight", weight, shift("weight"));
    bias = watched.Input("bias", bias, shift("bias"));
    y = watched.Output("y", y, shift("y"));
    const at::Tensor summed = watched.Output("residual", residual, shift("residual"));
    NormArguments a{};
    a.dtype = KernelType(s.dtype);
    a.x = x.const_data_ptr();
    a.residual = summed.defined() ? summed.mutable_data_ptr() : nullptr;
    a.weight = weight.const_data_ptr();
    a.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
    a.y = y.mutable_data_ptr();
    a.stride = s.width;
    a.rows = static_cast<int>(s.rows);
    a.groups = 1;
    a.width = static_cast<int>(s.width);
    a.eps = kEps;
    a.layer = s.layer;
    Run(a);
    if (s.rows == 0) return;
    const at::Tensor expected =
        s.layer ? reference_.LayerNorm(x, residual, weight, bias, kEps) : reference_.RmsNorm(x, residual, weight, kEps);
    if (s.layer && s.width == 1) {  // what is left of one number is rounding
      EXPECT_TRUE(at::allclose(y.to(at::kFloat), expected.to(at::kFloat), 0, 1e-2));
    } else if (s.layer) {  // less the mean, which errs by itself
      EXPECT_TRUE(at::allclose(y.to(at::kFloat), expected.to(at::kFloat), s.dtype == at::kFloat ? 2e-5 : 1. / 100,
                               s.dtype == at::kFloat ? 2e-5 : 1e-4));
    } else {
      EXPECT_TRUE(SameButForTheLastPlace(y, expected));
    }
    if (s.residual) {
      EXPECT_TRUE(at::equal(summed, residual)) << "of the residual, which is a sum of two";
    }
  }

  void ExpectColumns(int64_t rows, int64_t before, int64_t groups, int64_t width, int64_t behind,
                     at::ScalarType dtype) {
    SCOPED_TRACE(absl::StrCat(rows, " rows, ", before, " columns, ", groups, " runs of ", width, ", ", behind,
                              " columns, ", c10::toString(dtype)));
    WatchedTensors watched;
    at::Tensor x = random_.Tensor({rows, before + groups * width + behind}, dtype);
    x.narrow(1, 0, before).fill_(kNan);
    x.narrow(1, before + groups * width, behind).fill_(kNan);
    const at::Tensor weight = watched.Input("weight", random_.Tensor({width}, dtype));
    const at::Tensor got = watched.Output("x", x);
    NormArguments a{};
    a.dtype = KernelType(dtype);
    a.y = static_cast<char*>(got.mutable_data_ptr()) + before * static_cast<int64_t>(got.element_size());
    a.x = a.y;
    a.weight = weight.const_data_ptr();
    a.stride = got.size(1);
    a.rows = static_cast<int>(rows);
    a.groups = static_cast<int>(groups);
    a.width = static_cast<int>(width);
    a.eps = kEps;
    a.rounded_first = true;
    Run(a);
    reference_.NormColumns(x, before, groups, width, weight, kEps);
    EXPECT_TRUE(SameButForTheLastPlace(got, x));
  }

  c10::InferenceMode guard_;
  testing::Random random_{21};
  ReferenceOps reference_;
};

TEST_F(NormTest, WidthsInEveryType) {
  for (const int64_t width :
       {1, 2, 3, 7, 8, 31, 32, 33, 64, 100, 127, 128, 129, 504, 512, 520, 2048, 4096, 4100, 5000}) {
    for (const at::ScalarType dtype : kKernelTypes) {
      ExpectReference({.width = width, .dtype = dtype, .residual = true});
      ExpectReference({.width = width, .dtype = dtype});
      ExpectReference({.width = width, .dtype = dtype, .residual = true, .layer = true, .bias = true});
    }
  }
  EXPECT_EQ(cuda_emulator::KernelsSeen(), 2) << "RMSNorm and LayerNorm";
}

TEST_F(NormTest, NoRowsOneRowAndMany) {
  for (const int64_t rows : {0, 1, 2, 33, 700}) {
    for (const bool layer : {false, true}) ExpectReference({.rows = rows, .residual = true, .layer = layer});
  }
}

TEST_F(NormTest, WhatIsNotAlignedAndNormsWithoutBias) {
  for (const at::ScalarType dtype : kKernelTypes) {
    for (const int64_t shift : {1, 3}) {
      ExpectReference({.width = 96, .dtype = dtype, .residual = true, .shift = shift});
      ExpectReference({.width = 96, .dtype = dtype, .layer = true, .bias = true, .shift = shift});
    }
    ExpectReference({.width = 96, .dtype = dtype, .layer = true});
    for (const char* one : {"x", "weight", "bias", "y", "residual"}) {
      ExpectReference(
          {.width = 96, .dtype = dtype, .residual = true, .layer = true, .bias = true, .shift = 1, .shifted = one});
    }
  }
}

TEST_F(NormTest, LargeAndSmallNumbers) {
  for (const double deviation : {1e-6, 1e-3, 1e4}) {
    for (const at::ScalarType dtype : kKernelTypes)
      ExpectReference({.width = 256, .dtype = dtype, .deviation = deviation});
  }
}

TEST_F(NormTest, Columns) {
  for (const at::ScalarType dtype : kKernelTypes) {
    ExpectColumns(0, 8, 2, 16, 8, dtype);
    ExpectColumns(1, 0, 1, 1, 0, dtype);
    ExpectColumns(5, 16, 4, 128, 64, dtype);
    ExpectColumns(5, 3, 4, 64, 5, dtype);   // does not begin where packs can be loaded
    ExpectColumns(5, 8, 4, 64, 1, dtype);   // nor do rows
    ExpectColumns(3, 8, 5, 20, 20, dtype);  // nor do runs
    ExpectColumns(3, 8, 4, 6, 8, dtype);
    ExpectColumns(2, 8, 1, 1536, 8, dtype);
  }
}

// In place of an overflowing square, a row that is not finite stays so: the step's end finds it.
TEST_F(NormTest, WhatIsNoNumberStaysNone) {
  WatchedTensors watched;
  at::Tensor x = at::full({2, 64}, 1, at::kBFloat16);
  x[1][63] = kNan;
  x = watched.Input("x", x);
  const at::Tensor y = watched.Output("y", at::full({2, 64}, 0, at::kBFloat16));
  const at::Tensor weight = watched.Input("weight", at::full({64}, 1, at::kBFloat16));
  NormArguments a{};
  a.dtype = CudaDType::kBF16;
  a.x = x.const_data_ptr();
  a.weight = weight.const_data_ptr();
  a.y = y.mutable_data_ptr();
  a.stride = a.width = 64;
  a.rows = 2;
  a.groups = 1;
  Run(a);
  EXPECT_TRUE(y[0].isfinite().all().item<bool>());
  EXPECT_TRUE(y[1].isnan().all().item<bool>());
}

}  // namespace
}  // namespace causeway
