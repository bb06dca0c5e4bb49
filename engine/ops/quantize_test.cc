// Tests of Quantize, Dequantize and ReferenceOps' quantized weights.
#include "engine/ops/quantize.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>

#include "engine/ops/cpu/isa.h"
#include "engine/ops/ops_testing.h"
#include "engine/ops/reference.h"

namespace causeway {
namespace {

using testing::Random;

constexpr WeightFormat kInt8{.kind = WeightKind::kInt8};
constexpr WeightFormat kInt4By32{.kind = WeightKind::kInt4, .group = 32};
constexpr WeightFormat kFp8{.kind = WeightKind::kFp8, .group = 128};

double SquaredError(const at::Tensor& rows, const WeightFormat& format) {
  const at::Tensor wanted = rows.to(at::kFloat);
  return ((Dequantize(Quantize(rows, format), format) - wanted).square().sum() / wanted.square().sum()).item<double>();
}

class QuantizeTest : public ::testing::Test {
 protected:
  at::Tensor Levels(int64_t n, int64_t in, int64_t levels) { return at::randint(levels, {n, in}, at::kByte); }

  c10::InferenceMode guard_;
  Random random_{11};
};

TEST_F(QuantizeTest, Int8IsWithinHalfAStepOfEveryWeight) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t in : {1, 5, 32, 100, 257}) {
      const at::Tensor rows = random_.Tensor({7, in}, dtype, 0.03);
      const QuantizedRows quantized = Quantize(rows, kInt8);
      const at::Tensor wanted = rows.to(at::kFloat), largest = wanted.abs().amax(1, true);
      EXPECT_EQ(quantized.values.scalar_type(), at::kChar);
      EXPECT_TRUE(at::allclose(quantized.scales, largest / 127, 1e-6, 0));
      EXPECT_EQ(quantized.values.to(at::kInt).abs().amax().item<int>(), 127);
      EXPECT_TRUE(((Dequantize(quantized, kInt8) - wanted).abs() <= quantized.scales * 0.5001).all().item<bool>())
          << in;
    }
  }
}

TEST_F(QuantizeTest, Int8SharesHaveTheNumbersOfTheWholeRows) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor rows = random_.Tensor({7, 100}, dtype, 0.03);
    const QuantizedRows whole = Quantize(rows, kInt8);
    for (const auto& [first, count] : {std::pair(0, 37), std::pair(37, 63)}) {
      const QuantizedRows share = QuantizeShares(rows.narrow(1, first, count), rows.to(at::kFloat).abs().amax(1));
      EXPECT_TRUE(share.values.equal(whole.values.narrow(1, first, count)));
      EXPECT_TRUE(share.scales.equal(whole.scales));
    }
  }
  EXPECT_THROW(QuantizeShares(at::zeros({1, 8}), at::full({1}, std::numeric_limits<float>::quiet_NaN())),
               c10::ValueError)
      << "another share has it";
}

TEST_F(QuantizeTest, Int4HasTheErrorOfASearchedScale) {
  const at::Tensor rows = random_.Tensor({64, 2048}, at::kBFloat16, 0.02);
  // For normal weights, the least possible error in this format is about 0.0066 and 0.0081. The plain choice, which
  // puts the largest at -8, has 0.0071 and 0.0087.
  EXPECT_LT(SquaredError(rows, kInt4By32), 0.0067);
  EXPECT_LT(SquaredError(rows, {.kind = WeightKind::kInt4, .group = 64}), 0.0082);
  EXPECT_LT(SquaredError(rows, {.kind = WeightKind::kInt4, .group = 0}), 0.03);
}

TEST_F(QuantizeTest, Int4GroupsMayBeShortFewOrMany) {
  for (const int64_t in : {1, 31, 32, 33, 64, 100, 608, 1600}) {
    const at::Tensor rows = random_.Tensor({3, in}, at::kFloat);
    const QuantizedRows quantized = Quantize(rows, kInt4By32);
    ASSERT_EQ(quantized.scales.sizes(), at::IntArrayRef({3, (in + 31) / 32}));
    EXPECT_LE(quantized.values.max().item<int>(), 15);
    EXPECT_TRUE(at::equal(quantized.scales, quantized.scales.to(at::kHalf).to(at::kFloat)));
    EXPECT_LT(SquaredError(rows, kInt4By32), 0.02) << in;
  }
}

TEST_F(QuantizeTest, WeightsOnTheGridStayAsTheyAre) {
  const at::Tensor levels = Levels(8, 96, 16).to(at::kFloat) - 8;
  levels.select(1, 0).fill_(-8);
  levels.select(1, 32).fill_(-8);
  levels.select(1, 64).fill_(-8);
  const at::Tensor int4 = levels * -0.0078125;
  EXPECT_TRUE(at::equal(Dequantize(Quantize(int4, kInt4By32), kInt4By32), int4));
  const at::Tensor int8 = Levels(8, 96, 255).to(at::kFloat) - 127;
  int8.select(1, 5).fill_(127);
  EXPECT_TRUE(at::equal(Dequantize(Quantize(int8, kInt8), kInt8), int8));
}

TEST_F(QuantizeTest, ZerosAndVanishingWeightsBecomeZero) {
  for (const WeightFormat& format : {kInt8, kInt4By32}) {
    EXPECT_TRUE(at::equal(Dequantize(Quantize(at::zeros({3, 40}), format), format), at::zeros({3, 40})));
    EXPECT_TRUE(at::equal(Dequantize(Quantize(at::full({3, 40}, 1e-38), format), format), at::zeros({3, 40})));
  }
}

TEST_F(QuantizeTest, SmallScalesKeepTheirPrecisionInFp16) {
  // The scales are near 2^-17 and of either sign. fp16 holds them as subnormals, in steps of 2^-24.
  const at::Tensor rows = random_.Tensor({16, 64}, at::kFloat, 3e-5), scales = Quantize(rows, kInt4By32).scales;
  EXPECT_LT(SquaredError(rows, kInt4By32), 0.008);
  EXPECT_TRUE(at::equal(scales, scales.to(at::kHalf).to(at::kFloat)));
  EXPECT_TRUE((scales < 0).any().item<bool>() && (scales > 0).any().item<bool>());
}

TEST_F(QuantizeTest, WhatCannotBeQuantizedIsRefused) {
  at::Tensor rows = random_.Tensor({4, 64}, at::kFloat);
  const auto complaint = [](const at::Tensor& x, const WeightFormat& format) {
    try {
      Quantize(x, format);
      return std::string("no error");
    } catch (const c10::ValueError& error) {
      return std::string(error.what_without_backtrace());
    }
  };
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    rows[2][40].fill_(bad);
    for (const WeightFormat& format : {kInt8, kInt4By32})
      EXPECT_EQ(complaint(rows, format), "expected finite weights, found others");
  }
  // This makes a scale of 125000.
  EXPECT_EQ(complaint(at::full({1, 32}, 1e6), kInt4By32),
            "expected weights with scales that fp16 holds, found larger ones");
  EXPECT_EQ(complaint(at::full({1, 32}, 1e6), kInt8), "no error");
  EXPECT_THROW(Quantize(at::zeros({1, 128}), kFp8), c10::Error);
  EXPECT_THROW(Quantize(at::zeros({1, 32}), {.kind = WeightKind::kInt4, .group = 32, .zero_points = true}), c10::Error);
  EXPECT_THROW(Quantize(at::zeros({1, 32}, at::kByte), kInt8), c10::Error);
}

TEST_F(QuantizeTest, EveryInstructionSetGivesNearlyTheSame) {
  const at::Tensor rows = random_.Tensor({5, 1000}, at::kBFloat16);
  const QuantizedRows best = Quantize(rows, kInt4By32);
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    QuantizedRows other{at::zeros_like(best.values), at::zeros_like(best.scales), {}};
    cpu::KernelsOf(isa).quantize_int4({.element = cpu::Element::kBf16,
                                       .x = rows.const_data_ptr(),
                                       .values = other.values.mutable_data_ptr(),
                                       .scales = other.scales.mutable_data_ptr<float>(),
                                       .rows = 5,
                                       .in = 1000,
                                       .group = 32});
    // Sums are rounded differently, so that a tie may fall elsewhere.
    EXPECT_TRUE(at::allclose(Dequantize(other, kInt4By32), Dequantize(best, kInt4By32), 0, 0.02)) << cpu::IsaName(isa);
    EXPECT_GT((other.values == best.values).to(at::kFloat).mean().item<float>(), 0.99) << cpu::IsaName(isa);
  }
}

TEST_F(QuantizeTest, DequantizeIsValueMinusZeroTimesScale) {
  QuantizedRows rows{at::tensor(std::vector<int>{0, 1, 15, 8}, at::kByte).view({1, 4}),
                     at::tensor({0.5f, 2.0f}).view({1, 2}), at::tensor(std::vector<int>{3, 9}, at::kByte).view({1, 2})};
  EXPECT_TRUE(at::equal(Dequantize(rows, {.kind = WeightKind::kInt4, .group = 3, .zero_points = true}),
                        at::tensor({-1.5f, -1.0f, 6.0f, -2.0f}).view({1, 4})));
  rows.zeros = at::Tensor();
  EXPECT_TRUE(at::equal(Dequantize(rows, {.kind = WeightKind::kInt4, .group = 3}),
                        at::tensor({-4.0f, -3.5f, 3.5f, 0.0f}).view({1, 4})));
}

TEST_F(QuantizeTest, NibblesComeBack) {
  for (const int64_t in : {1, 2, 7, 64}) {
    const at::Tensor values = Levels(3, in, 16);
    const at::Tensor packed = PackNibbles(values);
    EXPECT_EQ(packed.size(1), (in + 1) / 2);
    EXPECT_TRUE(at::equal(UnpackNibbles(packed, in), values));
  }
}

struct HeldCase {
  WeightFormat format;
  int64_t out, in;
  int64_t bytes;  // of values, scales and zeros, and of an fp32 bias for each output
};

class QuantizedLinearTest : public QuantizeTest, public ::testing::WithParamInterface<HeldCase> {
 protected:
  // Rows as a checkpoint could hold them.
  QuantizedRows Stored() {
    const auto [format, out, in, bytes] = GetParam();
    QuantizedRows rows;
    switch (format.kind) {
      case WeightKind::kInt8: rows.values = at::randint(-127, 128, {out, in}, at::kChar); break;
      case WeightKind::kFp8:
        rows.values = random_.Tensor({out, in}, at::kFloat).to(at::kFloat8_e4m3fn).view(at::kByte);
        break;
      default: rows.values = Levels(out, in, 16);
    }
    rows.scales = random_.Tensor({out, format.groups(in)}, at::kFloat, 0.1).to(at::kHalf).to(at::kFloat);
    if (format.zero_points) rows.zeros = Levels(out, format.groups(in), 16);
    return rows;
  }
  static QuantizedRows Slice(const QuantizedRows& rows, int64_t first, int64_t n) {
    return {rows.values.narrow(0, first, n), rows.scales.narrow(0, first, n),
            rows.zeros.defined() ? rows.zeros.narrow(0, first, n) : at::Tensor()};
  }

  ReferenceOps ops_;
};

TEST_P(QuantizedLinearTest, ComputesFromWhatIsStored) {
  const auto [format, out, in, bytes] = GetParam();
  const QuantizedRows rows = Stored();
  auto weight = ops_.NewLinear(out, in, true, at::kFloat, at::kCPU, format);
  const at::Tensor bias = random_.Tensor({out}, at::kFloat), x = random_.Tensor({5, in}, at::kFloat);
  weight->SetQuantizedRows(0, Slice(rows, 0, out / 2));
  weight->SetQuantizedRows(out / 2, Slice(rows, out / 2, out - out / 2));
  weight->SetBias(0, bias);
  EXPECT_EQ(weight->out_features(), out);
  EXPECT_EQ(weight->in_features(), in);
  EXPECT_EQ(weight->bytes(), bytes);
  const at::Tensor matrix = Dequantize(rows, format);
  EXPECT_TRUE(at::allclose(weight->Forward(x), at::linear(x, matrix, bias), 1e-5, 1e-5));
  const at::Tensor ids = at::tensor(std::vector<int64_t>{out - 1, 0, out - 1});
  EXPECT_TRUE(at::equal(weight->Lookup(ids), matrix.index_select(0, ids)));
  // Act-order: input i of the weight reads column order[i] of x.
  std::vector<int32_t> order(in);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_.engine());
  const at::Tensor column = at::tensor(order, at::kInt);
  EXPECT_THROW(weight->SetInputOrder(column), c10::Error);
  WeightFormat reordered = format;
  reordered.reordered = true;
  weight = ops_.NewLinear(out, in, true, at::kFloat, at::kCPU, reordered);
  weight->SetQuantizedRows(0, rows);
  weight->SetBias(0, bias);
  EXPECT_TRUE(at::allclose(weight->Forward(x), at::linear(x, matrix, bias), 1e-5, 1e-5));
  weight->SetInputOrder(column);
  EXPECT_EQ(weight->bytes(), bytes + 4 * in) << "the order takes an int32 for each input";
  EXPECT_TRUE(at::allclose(weight->Forward(x), at::linear(x.index_select(1, column), matrix, bias), 1e-5, 1e-5));
}

TEST_P(QuantizedLinearTest, ResultsAreOfTheComputationsDtype) {
  const auto [format, out, in, bytes] = GetParam();
  const QuantizedRows rows = Stored();
  auto weight = ops_.NewLinear(out, in, false, at::kBFloat16, at::kCPU, format);
  weight->SetQuantizedRows(0, rows);
  const at::Tensor x = random_.Tensor({3, in}, at::kBFloat16);
  EXPECT_TRUE(at::equal(weight->Forward(x), at::linear(x, Dequantize(rows, format).to(at::kBFloat16))));
  EXPECT_EQ(weight->Lookup(at::tensor(std::vector<int64_t>{1})).scalar_type(), at::kBFloat16);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizedLinearTest,
    ::testing::Values(HeldCase{kInt8, 70, 33, 2310 + 280 + 280}, HeldCase{kInt4By32, 70, 96, 3360 + 420 + 280},
                      HeldCase{kInt4By32, 9, 100, 450 + 72 + 36},
                      HeldCase{
                          {.kind = WeightKind::kInt4, .group = 64, .zero_points = true}, 70, 128, 4480 + 420 + 280},
                      HeldCase{{.kind = WeightKind::kInt4, .group = 0}, 8, 96, 384 + 16 + 32},
                      HeldCase{kFp8, 70, 256, 17920 + 560 + 280}, HeldCase{kFp8, 9, 300, 2700 + 108 + 36}));

TEST_F(QuantizeTest, LinearsAreQuantizedAsTheyAreSet) {
  ReferenceOps ops;
  const at::Tensor rows = random_.Tensor({40, 64}, at::kBFloat16), x = random_.Tensor({3, 64}, at::kFloat);
  for (const WeightFormat& format : {kInt8, kInt4By32}) {
    auto weight = ops.NewLinear(40, 64, false, at::kFloat, at::kCPU, format);
    weight->SetRows(0, rows);
    EXPECT_TRUE(
        at::allclose(weight->Forward(x), at::linear(x, Dequantize(Quantize(rows, format), format)), 1e-5, 1e-5));
  }
}

TEST_F(QuantizeTest, LargeLinearsAreDequantizedInPieces) {
  ReferenceOps ops;
  auto weight = ops.NewLinear(3000, 4096, false, at::kFloat, at::kCPU, kInt8);  // dequantized in three pieces
  const at::Tensor rows = random_.Tensor({3000, 4096}, at::kFloat), x = random_.Tensor({2, 4096}, at::kFloat);
  weight->SetRows(0, rows);
  EXPECT_TRUE(at::allclose(weight->Forward(x), at::linear(x, Dequantize(Quantize(rows, kInt8), kInt8)), 1e-4, 1e-4));
}

TEST_F(QuantizeTest, WrongRowsAreRefused) {
  ReferenceOps ops;
  WeightFormat format = kInt4By32;
  format.reordered = true;
  auto weight = ops.NewLinear(8, 64, false, at::kFloat, at::kCPU, format);
  const at::Tensor values = Levels(8, 64, 16), scales = at::zeros({8, 2});
  EXPECT_THROW(weight->SetQuantizedRows(1, {values, scales, {}}), c10::Error);
  EXPECT_THROW(weight->SetQuantizedRows(0, {values, at::zeros({8, 1}), {}}), c10::Error);
  EXPECT_THROW(weight->SetQuantizedRows(0, {values, scales, at::zeros({8, 2}, at::kByte)}), c10::Error);
  EXPECT_THROW(weight->SetInputOrder(at::zeros({63}, at::kInt)), c10::Error);
  auto plain = ops.NewLinear(8, 64, false, at::kFloat, at::kCPU);
  EXPECT_THROW(plain->SetQuantizedRows(0, {values, scales, {}}), c10::Error);
}

}  // namespace
}  // namespace causeway
