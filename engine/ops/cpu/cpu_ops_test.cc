// Compares every operation of CpuOps but attention with ReferenceOps, on every instruction set that this processor
// runs.
#include "engine/ops/cpu/cpu_ops.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "engine/ops/cpu/cpu_ops_testing.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

using CpuOpsTest = testing::CpuOpsTest;
INSTANTIATE_TEST_SUITE_P(Isas, CpuOpsTest, testing::AllKernels(), testing::KernelsName);

TEST_P(CpuOpsTest, LinearMatchesReference) {
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{7, 32},   {1, 1},     {31, 33}, {64, 64},   {65, 127},
                                                           {96, 128}, {300, 257}, {128, 5}, {501, 700}, {33, 1024}};
  for (const auto& [out, in] : shapes) {
    for (bool bias : {false, true}) {
      const Pair weights = MakeWeights(out, in, bias);
      for (int64_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 31, 64, 253, 511}) {
        const at::Tensor x = random_.Tensor({rows, in}, activations());
        // The reference computes in fp32 from the same rounded inputs, so that only the kernel's own rounding counts.
        const at::Tensor expected = weights.plain->Forward(x);
        ExpectNear(weights.fused->Forward(x), expected, tolerance(),
                   "out " + std::to_string(out) + " in " + std::to_string(in) + " rows " + std::to_string(rows));
      }
    }
  }
}

TEST_P(CpuOpsTest, LinearOfARowDoesNotDependOnTheBatchOrTheThreads) {
  const int64_t out = 200, in = 514;
  const Pair weights = MakeWeights(out, in, true);
  const at::Tensor x = random_.Tensor({300, in}, activations());
  const at::Tensor all = weights.fused->Forward(x);
  for (int64_t rows : {1, 2, 5, 6, 7, 16, 33}) {
    SetTeam(static_cast<int>(1 + rows % 3));
    EXPECT_TRUE(at::equal(weights.fused->Forward(x.narrow(0, 17, rows)), all.narrow(0, 17, rows))) << rows << " rows";
  }
  SetTeam(2);
}

TEST_P(CpuOpsTest, WeightsSetInPiecesByThreads) {
  const int64_t out = 64 * 9 + 21, in = 77;
  const at::Tensor rows = random_.Tensor({out, in}, at::kFloat), bias = random_.Tensor({out}, at::kFloat);
  auto whole = ops_->NewLinear(out, in, true, dtype(), at::kCPU),
       pieces = ops_->NewLinear(out, in, true, dtype(), at::kCPU);
  whole->SetRows(0, rows);
  whole->SetBias(0, bias);
  std::vector<std::thread> threads;
  for (int64_t begin = 0; begin < out; begin += 192) {  // each thread sets its own multiple of 64, in odd pieces
    threads.emplace_back([&, begin] {
      const int64_t end = std::min(begin + 192, out);
      int64_t n = 1;
      for (int64_t at = begin; at < end; at += n, n = n * 2 + 1) {
        n = std::min(n, end - at);
        pieces->SetRows(at, rows.narrow(0, at, n));
        pieces->SetBias(at, bias.narrow(0, at, n));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const at::Tensor x = random_.Tensor({3, in}, activations());
  EXPECT_TRUE(at::equal(whole->Forward(x), pieces->Forward(x)));
  EXPECT_GE(whole->bytes(), out * in * (dtype() == at::kFloat ? 4 : 2));
}

TEST_P(CpuOpsTest, WeightsConvertFromOtherDtypes) {
  const at::Tensor rows = random_.Tensor({40, 64}, at::kFloat), x = random_.Tensor({2, 64}, activations());
  for (at::ScalarType from : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    auto weight = ops_->NewLinear(40, 64, false, dtype(), at::kCPU),
         plain = reference_.NewLinear(40, 64, false, activations(), at::kCPU);
    weight->SetRows(0, rows.to(from));
    plain->SetRows(0, rows.to(from).to(dtype()));
    ExpectNear(weight->Forward(x), plain->Forward(x), 10 * tolerance(), c10::toString(from));
  }
}

// All 65,536 of them: subnormals, infinities and NaNs, too.
TEST_P(CpuOpsTest, EveryHalfIsWidenedExactly) {
  if (dtype() != at::kHalf) return;
  at::Tensor bits = at::arange(65536, at::kInt).to(at::kShort).view({65536, 1});
  const at::Tensor halves = bits.view(at::kHalf), expected = halves.to(at::kFloat).t();
  for (const int64_t in : {1, 2}) {  // the last or only input of a unit
    const auto weight = ops_->NewLinear(65536, in, false, dtype(), at::kCPU);
    const at::Tensor zeros = at::zeros({65536, in - 1}, dtype());
    weight->SetRows(0, at::cat({zeros, halves}, 1));
    const at::Tensor x = at::full({1, in}, 1, at::kFloat), y = weight->Forward(x);
    EXPECT_TRUE(at::equal(at::isnan(y), at::isnan(expected)));
    EXPECT_TRUE(at::equal(y.nan_to_num(1, 2, 3), expected.nan_to_num(1, 2, 3))) << in;
  }
}

// Beside fp16 weights all is as it would be in fp32, to the last bit.
TEST_P(CpuOpsTest, LinearsOfHalvesAreThoseOfTheSameFloats) {
  if (dtype() != at::kHalf) return;
  for (const int64_t in : {1, 7, 256, 700, 1027}) {
    const at::Tensor rows = random_.Tensor({130, in}, dtype()), bias = random_.Tensor({130}, dtype());
    const auto make = [&](at::ScalarType held) {
      auto weight = ops_->NewLinear(130, in, true, held, at::kCPU);
      weight->SetRows(0, rows);
      weight->SetBias(0, bias);
      return weight;
    };
    const auto halves = make(at::kHalf), floats = make(at::kFloat);
    for (const int64_t n : {1, 2, 5, 13, 70}) {
      const at::Tensor x = random_.Tensor({n, in}, at::kFloat, 1e5);  // beyond fp16
      EXPECT_TRUE(at::equal(halves->Forward(x), floats->Forward(x))) << n << " x " << in;
    }
  }
}

TEST_P(CpuOpsTest, RowsOutsideAWeightAreRefused) {
  auto weight = ops_->NewLinear(8, 16, false, dtype(), at::kCPU);
  EXPECT_THROW(weight->SetRows(5, random_.Tensor({4, 16}, dtype())), c10::Error);
  EXPECT_THROW(weight->SetRows(0, random_.Tensor({4, 15}, dtype())), c10::Error);
  EXPECT_THROW(weight->SetBias(0, random_.Tensor({8}, dtype())), c10::Error);
  EXPECT_THROW(weight->Forward(random_.Tensor({1, 15}, activations())), c10::Error);
  EXPECT_THROW(weight->Forward(random_.Tensor({1, 16}, at::kDouble)), c10::Error);
}

TEST_P(CpuOpsTest, EmbeddingIsExact) {
  for (int64_t in : {1, 31, 32, 200}) {
    const Pair weights = MakeWeights(77, in, false);
    const at::Tensor ids = at::tensor(std::vector<int64_t>{76, 0, 31, 32, 33, 5, 5});
    EXPECT_TRUE(at::equal(weights.fused->Lookup(ids), weights.plain->Lookup(ids))) << in;
    EXPECT_THROW(weights.fused->Lookup(at::tensor(std::vector<int64_t>{77})), c10::Error);
    EXPECT_THROW(weights.fused->Lookup(at::tensor(std::vector<int64_t>{-1})), c10::Error);
  }
}

TEST_P(CpuOpsTest, NormsMatchReference) {
  for (int64_t width : {1, 7, 16, 33, 64, 1600, 2049}) {
    for (int64_t rows : {1, 3, 40}) {
      for (bool with_residual : {false, true}) {
        const at::Tensor x = random_.Tensor({rows, width}, activations(), 3) + 1;
        const at::Tensor weight = random_.Tensor({width}, dtype()), bias = random_.Tensor({width}, dtype());
        const at::Tensor residual = random_.Tensor({rows, width}, activations());
        const std::string what = "width " + std::to_string(width) + " rows " + std::to_string(rows);
        for (int kind = 0; kind < 3; ++kind) {
          const auto norm = [&](Ops& ops, const at::Tensor& r) {
            return kind == 0 ? ops.RmsNorm(x, r, weight, 1e-5)
                             : ops.LayerNorm(x, r, weight, kind == 1 ? bias : at::Tensor(), 1e-5);
          };
          at::Tensor fused_residual, plain_residual;
          if (with_residual) fused_residual = residual.clone(), plain_residual = residual.clone();
          const at::Tensor actual = norm(*ops_, fused_residual), expected = norm(reference_, plain_residual);
          ExpectNear(actual, expected, tolerance(), what + " kind " + std::to_string(kind));
          if (with_residual) {
            EXPECT_TRUE(at::equal(fused_residual, plain_residual)) << what;
          }
        }
      }
    }
  }
}

TEST_P(CpuOpsTest, NormsOfColumnsMatchReferenceAndLeaveTheOthers) {
  for (int64_t width : {1, 7, 24, 128, 1031}) {
    for (int64_t rows : {0, 1, 3, 40}) {
      for (int64_t groups : {1, 4}) {
        const at::Tensor x = random_.Tensor({rows, 5 + groups * width + 3}, activations(), 3) + 1,
                         weight = random_.Tensor({width}, dtype());
        at::Tensor actual = x.clone(), expected = x.clone();
        ops_->NormColumns(actual, 5, groups, width, weight, 1e-5);
        reference_.NormColumns(expected, 5, groups, width, weight, 1e-5);
        const std::string what =
            "width " + std::to_string(width) + " rows " + std::to_string(rows) + " groups " + std::to_string(groups);
        ExpectNear(actual, expected, tolerance(), what);
        EXPECT_TRUE(at::equal(actual.narrow(1, 0, 5), x.narrow(1, 0, 5))) << what;
        EXPECT_TRUE(at::equal(actual.narrow(1, 5 + groups * width, 3), x.narrow(1, 5 + groups * width, 3))) << what;
      }
    }
  }
  at::Tensor x = random_.Tensor({2, 8}, activations());
  EXPECT_THROW(ops_->NormColumns(x, 1, 2, 4, random_.Tensor({4}, dtype()), 1e-5), c10::Error);
  EXPECT_THROW(ops_->NormColumns(x, 0, 2, 4, random_.Tensor({8}, dtype()), 1e-5), c10::Error);
}

TEST_P(CpuOpsTest, ActivationsMatchReference) {
  for (Activation kind : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    for (bool gated : {false, true}) {
      for (int64_t width : {1, 15, 64, 5632}) {
        const at::Tensor x = random_.Tensor({3, gated ? 2 * width : width}, activations(), 4);
        ExpectNear(ops_->Activate(x, kind, gated), reference_.Activate(x, kind, gated), tolerance() / 2,
                   "kind " + std::to_string(static_cast<int>(kind)) + " width " + std::to_string(width));
      }
      const at::Tensor extremes = at::tensor(std::vector<float>{-1e4, -200, -90, -20, -0.0, 1e-20, 20, 100, 1e4, 1})
                                      .view({1, 10})
                                      .to(activations());
      ExpectNear(ops_->Activate(extremes, kind, gated), reference_.Activate(extremes, kind, gated), tolerance(),
                 "extremes");
    }
  }
}

TEST_P(CpuOpsTest, OtherDtypesGoToTheReference) {
  const at::Tensor x = random_.Tensor({3, 24}, at::kDouble), w = random_.Tensor({24}, at::kDouble);
  auto weight = ops_->NewLinear(5, 24, false, at::kDouble, at::kCPU);
  const at::Tensor rows = random_.Tensor({5, 24}, at::kDouble);
  weight->SetRows(0, rows);
  ExpectNear(weight->Forward(x), x.matmul(rows.t()), 1e-12, "linear");
  ExpectNear(ops_->RmsNorm(x, {}, w, 1e-5), reference_.RmsNorm(x, {}, w, 1e-5), 0, "norm");
  ExpectNear(ops_->Activate(x, Activation::kGelu, true), reference_.Activate(x, Activation::kGelu, true), 0,
             "activation");
}

class VectorMathTest : public ::testing::TestWithParam<cpu::Isa> {};
INSTANTIATE_TEST_SUITE_P(Isas, VectorMathTest, ::testing::ValuesIn(cpu::SupportedIsas()), [](const auto& info) {
  std::string name = cpu::IsaName(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(VectorMathTest, ExpAndGeluKeepTheirRelativeAccuracy) {
  std::vector<float> x, y(20001);
  for (int i = 0; i <= 20000; ++i) x.push_back(static_cast<float>(-87 + i * (87 + 88) / 20000.0));
  cpu::KernelsOf(GetParam()).exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(y[i] / std::exp(static_cast<double>(x[i])) - 1));
  EXPECT_LT(worst, 2.5e-7);

  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(-12 + 24.0 * static_cast<double>(i) / 20000);
  cpu::KernelsOf(GetParam()).gelu(x.data(), y.data(), static_cast<int64_t>(x.size()));
  worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == 0) continue;
    const double v = x[i], exact = v * 0.5 * std::erfc(-v / std::sqrt(2.0));
    worst = std::max(worst, std::abs(y[i] / exact - 1));
  }
  EXPECT_LT(worst, 1e-5);  // most of it comes from rounding v^2 / 2 before e^x, far out

  float in[3] = {-1000, -88.5f, 0}, out[3];
  cpu::KernelsOf(GetParam()).exp(in, out, 3);
  EXPECT_EQ(out[0], 0);
  EXPECT_EQ(out[1], 0);
  EXPECT_EQ(out[2], 1);
}

}  // namespace
}  // namespace causeway
