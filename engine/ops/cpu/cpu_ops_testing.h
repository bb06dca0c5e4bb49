// The fused kernels beside the reference, on every instruction set that this processor runs: for this folder's tests.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_CPU_OPS_TESTING_H_
#define CAUSEWAY_ENGINE_OPS_CPU_CPU_OPS_TESTING_H_

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/ops_testing.h"
#include "engine/ops/reference.h"
#include "engine/threads/team.h"

namespace causeway::testing {

class CpuOpsTest : public ::testing::TestWithParam<std::tuple<cpu::Isa, at::ScalarType>> {
 protected:
  CpuOpsTest() { SetTeam(2); }
  ~CpuOpsTest() override { SetTeam(1); }

  cpu::Isa isa() const { return std::get<0>(GetParam()); }
  // Of weights, keys and values, and of all else.
  at::ScalarType dtype() const { return std::get<1>(GetParam()); }
  at::ScalarType activations() const { return ops_->Activations(dtype()); }
  // The tolerance for results of about unit size: a few roundings to the dtype.
  double tolerance() const { return activations() == at::kFloat ? 2e-5 : 2e-2; }
  double cached_tolerance() const { return dtype() == at::kHalf ? 1e-3 : tolerance(); }

  // Expects |actual - expected| <= tolerance * (1 + |expected|), and no NaN.
  void ExpectNear(const at::Tensor& actual, const at::Tensor& expected, double tolerance, const std::string& what) {
    ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
    ASSERT_EQ(actual.scalar_type(), expected.scalar_type()) << what;
    if (actual.numel() == 0) return;
    const at::Tensor a = actual.to(at::kDouble), e = expected.to(at::kDouble);
    const double error = ((a - e).abs() / (e.abs() + 1)).max().item<double>();
    EXPECT_LE(error, tolerance) << what;  // also fails for NaN
  }

  // The same weight for the kernels and for the reference, which has fp16 weights as the fp32 that they stand for.
  struct Pair {
    std::unique_ptr<LinearWeight> fused, plain;
  };
  Pair MakeWeights(int64_t out, int64_t in, bool bias) {
    Pair pair{ops_->NewLinear(out, in, bias, dtype(), at::kCPU),
              reference_.NewLinear(out, in, bias, activations(), at::kCPU)};
    const at::Tensor rows = random_.Tensor({out, in}, dtype(), 1 / std::sqrt(static_cast<double>(in)));
    pair.fused->SetRows(0, rows);
    pair.plain->SetRows(0, rows);
    if (bias) {
      const at::Tensor shift = random_.Tensor({out}, dtype());
      pair.fused->SetBias(0, shift);
      pair.plain->SetBias(0, shift);
    }
    return pair;
  }

  c10::InferenceMode guard_;
  Random random_{20240607};
  std::unique_ptr<Ops> ops_ = MakeCpuOps(isa());
  ReferenceOps reference_;
};

inline auto AllKernels() {
  return ::testing::Combine(::testing::ValuesIn(cpu::SupportedIsas()),
                            ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf));
}

inline std::string DTypeSuffix(at::ScalarType dtype) {
  return dtype == at::kFloat ? "_fp32" : dtype == at::kHalf ? "_fp16" : "_bf16";
}

inline std::string KernelsName(const ::testing::TestParamInfo<CpuOpsTest::ParamType>& info) {
  std::string name = cpu::IsaName(std::get<0>(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name + DTypeSuffix(std::get<1>(info.param));
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_ENGINE_OPS_CPU_CPU_OPS_TESTING_H_
