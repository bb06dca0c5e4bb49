// Compares quantized weights of CpuOps with sums in double, on every instruction set that this processor runs.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Float8_e4m3fn.h>
#include <gtest/gtest.h>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/quantized_weight.h"
#include "engine/ops/ops_testing.h"
#include "engine/ops/quantize.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

using testing::Random;

const WeightFormat kInt8{WeightKind::kInt8}, kFp8{WeightKind::kFp8, 128};
std::vector<WeightFormat> Formats() {
  std::vector<WeightFormat> formats = {kInt8, kFp8};
  for (int64_t group : {32, 64, 96, 128, 256, 0}) {
    for (bool zeros : {false, true}) formats.push_back({WeightKind::kInt4, group, zeros});
  }
  return formats;
}
std::string NameOf(const WeightFormat& f) {
  const std::string kind = f.kind == WeightKind::kInt8 ? "int8" : f.kind == WeightKind::kFp8 ? "fp8" : "int4";
  return kind + "_" + std::to_string(f.group) + (f.zero_points ? "_zeros" : "");
}

// Makes uniformly distributed values of a format, with scales that make products with unit x of about unit size.
QuantizedRows RandomRows(int64_t out, int64_t in, const WeightFormat& format, Random& random) {
  QuantizedRows rows;
  const int64_t groups = format.groups(in);
  const auto fill = [&](int64_t columns, at::ScalarType dtype, int low, int high) {
    at::Tensor t = at::empty({out, columns}, at::kInt);
    std::generate_n(t.mutable_data_ptr<int32_t>(), t.numel(),
                    [&] { return static_cast<int32_t>(random.Between(low, high)); });
    return t.to(dtype);
  };
  double size = 74;
  if (format.kind == WeightKind::kInt8) {
    rows.values = fill(in, at::kChar, -127, 127);
  } else if (format.kind == WeightKind::kInt4) {
    rows.values = fill(in, at::kByte, 0, 15);
    size = 6;
  } else {
    rows.values = fill(in, at::kByte, 0, 254);
    rows.values.masked_fill_(rows.values.eq(0x7f), 0);  // not a NaN
    size = 120;
  }
  if (format.zero_points) rows.zeros = fill(groups, at::kByte, 0, 15);
  rows.scales = random.Tensor({out, groups}, at::kHalf)
                    .to(at::kFloat)
                    .mul_(1 / (size * std::sqrt(static_cast<double>(in))))
                    .to(at::kHalf)
                    .to(at::kFloat);
  return rows;
}

// double [out, in], in the order of x.
at::Tensor Exact(const QuantizedRows& rows, const WeightFormat& format, const at::Tensor& order) {
  const int64_t out = rows.values.size(0), in = rows.values.size(1), group = format.groups(in) == 1 ? in : format.group;
  at::Tensor exact = at::zeros({out, in}, at::kDouble);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i) {
      double value;
      if (format.kind == WeightKind::kInt8) {
        value = rows.values.const_data_ptr<int8_t>()[o * in + i];
      } else if (format.kind == WeightKind::kFp8) {
        value = static_cast<float>(
            c10::Float8_e4m3fn(rows.values.const_data_ptr<uint8_t>()[o * in + i], c10::Float8_e4m3fn::from_bits()));
      } else {
        const int64_t g = o * rows.scales.size(1) + i / group;
        value = rows.values.const_data_ptr<uint8_t>()[o * in + i] -
                (rows.zeros.defined() ? rows.zeros.const_data_ptr<uint8_t>()[g] : 8);
      }
      const int64_t column = order.defined() ? order.const_data_ptr<int32_t>()[i] : i;
      exact.mutable_data_ptr<double>()[o * in + column] =
          value * rows.scales.const_data_ptr<float>()[o * rows.scales.size(1) + i / group];
    }
  }
  return exact;
}

at::Tensor RandomOrder(int64_t in, Random& random) {
  at::Tensor order = at::empty({in}, at::kInt);
  int32_t* begin = order.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < in; ++i) begin[i] = static_cast<int32_t>(i);
  std::shuffle(begin, begin + in, random.engine());
  return order;
}

class QuantizedTest : public ::testing::TestWithParam<std::tuple<cpu::Isa, at::ScalarType>> {
 protected:
  cpu::Isa isa() const { return std::get<0>(GetParam()); }
  at::ScalarType dtype() const { return std::get<1>(GetParam()); }  // of the computation
  at::ScalarType activations() const { return ops_->Activations(dtype()); }

  std::unique_ptr<LinearWeight> Make(const QuantizedRows& rows, WeightFormat format, const at::Tensor& order = {},
                                     const at::Tensor& bias = {}) {
    format.reordered = order.defined();
    auto weight = ops_->NewLinear(rows.values.size(0), rows.values.size(1), bias.defined(), dtype(), at::kCPU, format);
    weight->SetQuantizedRows(0, rows);
    if (order.defined()) weight->SetInputOrder(order);
    if (bias.defined()) weight->SetBias(0, bias);
    return weight;
  }

  c10::InferenceMode guard_;
  Random random_{20260101};
  std::unique_ptr<Ops> ops_ = MakeCpuOps(isa());
};

INSTANTIATE_TEST_SUITE_P(Isas, QuantizedTest,
                         ::testing::Combine(::testing::ValuesIn(cpu::SupportedIsas()),
                                            ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf)),
                         [](const auto& info) {
                           std::string name = cpu::IsaName(std::get<0>(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           const at::ScalarType dtype = std::get<1>(info.param);
                           return name + (dtype == at::kFloat ? "_fp32" : dtype == at::kHalf ? "_fp16" : "_bf16");
                         });

// x as the kernels see it. For integer arithmetic they see bytes with a scale for each row and chunk.
at::Tensor SeenX(at::ScalarType dtype, const at::Tensor& x, const WeightFormat& format, const at::Tensor& order) {
  at::Tensor seen = x.to(at::kFloat).contiguous().clone();
  if (dtype == at::kFloat || format.kind == WeightKind::kFp8) return seen.to(at::kDouble);
  const int64_t in = x.size(1), chunk = cpu::LayoutOf(format, in).chunk_blocks * cpu::kQuantizedBlock;
  for (int64_t r = 0; r < x.size(0); ++r) {
    float* row = seen.mutable_data_ptr<float>() + r * in;
    for (int64_t begin = 0; begin < in; begin += chunk) {
      const auto at = [&](int64_t i) -> float& {
        return row[order.defined() ? order.const_data_ptr<int32_t>()[i] : i];
      };
      float most = 0;
      for (int64_t i = begin; i < std::min(in, begin + chunk); ++i) most = std::max(most, std::abs(at(i)));
      for (int64_t i = begin; i < std::min(in, begin + chunk); ++i)
        at(i) = most == 0 ? 0 : std::nearbyint(at(i) * (127 / most)) * (most / 127);
    }
  }
  return seen.to(at::kDouble);
}

double ErrorOf(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor a = actual.to(at::kDouble);
  return ((a - expected).abs() / (expected.abs() + 1)).max().item<double>();
}

TEST_P(QuantizedTest, LinearMatchesSumsInDouble) {
  const double tolerance = activations() == at::kFloat ? 2e-5 : 6e-3;  // bf16: the result's rounding
  for (const WeightFormat& format : Formats()) {
    for (const auto& [out, in] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 32}, {33, 40}, {65, 320}, {96, 700}, {130, 1024}}) {
      for (bool extras : {false, true}) {  // with and without a bias and an order of the inputs
        const QuantizedRows rows = RandomRows(out, in, format, random_);
        const at::Tensor order = extras ? RandomOrder(in, random_) : at::Tensor();
        const at::Tensor bias = extras ? random_.Tensor({out}, dtype()) : at::Tensor();
        const auto weight = Make(rows, format, order, bias);
        const at::Tensor exact = Exact(rows, format, order);
        for (int64_t n : {0, 1, 2, 3, 4, 5, 6, 7, 16, 40}) {
          const at::Tensor x = random_.Tensor({n, in}, activations());
          const at::Tensor y = weight->Forward(x);
          ASSERT_EQ(y.sizes(), (std::vector<int64_t>{n, out}));
          ASSERT_EQ(y.scalar_type(), activations());
          if (n == 0) continue;
          at::Tensor expected = SeenX(dtype(), x, format, order).matmul(exact.t());
          if (extras) expected = expected + bias.to(at::kDouble);
          EXPECT_LE(ErrorOf(y, expected), tolerance)
              << NameOf(format) << " out " << out << " in " << in << " rows " << n << " extras " << extras;
        }
      }
    }
  }
}

TEST_P(QuantizedTest, FloatRowsAreQuantized) {
  for (const WeightFormat& format : {kInt8, WeightFormat{WeightKind::kInt4, 32}}) {
    const at::Tensor floats = random_.Tensor({70, 200}, at::kFloat), x = random_.Tensor({3, 200}, activations());
    const auto weight = ops_->NewLinear(70, 200, false, dtype(), at::kCPU, format);
    weight->SetRows(0, floats.narrow(0, 0, 64));
    weight->SetRows(64, floats.narrow(0, 64, 6));
    EXPECT_TRUE(at::equal(weight->Forward(x), Make(Quantize(floats, format), format)->Forward(x))) << NameOf(format);
  }
}

TEST_P(QuantizedTest, QuantizingXCostsLittle) {
  // Compares with the exact x: the error of a whole result, relative to its size. An outlier in x hurts its own chunk
  // only.
  const int64_t out = 256, in = 1024;
  for (const WeightFormat& format :
       {kInt8, WeightFormat{WeightKind::kInt4, 32}, WeightFormat{WeightKind::kInt4, 128, true}, kFp8}) {
    const QuantizedRows rows = RandomRows(out, in, format, random_);
    const auto weight = Make(rows, format);
    for (double outlier : {0.0, 30.0}) {
      at::Tensor x = random_.Tensor({8, in}, at::kFloat);
      if (outlier > 0) x.select(1, 77).fill_(outlier);
      x = x.to(activations());
      const at::Tensor expected = x.to(at::kDouble).matmul(Exact(rows, format, {}).t());
      const double error = ((weight->Forward(x).to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
      EXPECT_LE(error, dtype() == at::kFloat ? 1e-6
                       : outlier > 0         ? 0.03
                                             : 0.01)
          << NameOf(format) << " outlier " << outlier;
    }
  }
}

TEST_P(QuantizedTest, ARowDoesNotDependOnTheBatchOrTheThreads) {
  const int64_t out = 200, in = 1500;
  for (const WeightFormat& format : Formats()) {
    const QuantizedRows rows = RandomRows(out, in, format, random_);
    const auto weight = Make(rows, format);
    const at::Tensor x = random_.Tensor({300, in}, activations());
    const at::Tensor all = weight->Forward(x);
    for (int64_t n : {1, 2, 5, 6, 7, 16, 33}) {
      SetTeam(static_cast<int>(1 + n % 3));
      EXPECT_TRUE(at::equal(weight->Forward(x.narrow(0, 17, n)), all.narrow(0, 17, n)))
          << NameOf(format) << ", " << n << " rows";
    }
    SetTeam(2);
  }
}

TEST_P(QuantizedTest, ExpertsAreTheirLinears) {
  const int64_t tokens = 30, hidden = 128, wide = 96, count = 5;
  for (const WeightFormat& format :
       {kInt8, kFp8, WeightFormat{WeightKind::kInt4, 32}, WeightFormat{WeightKind::kInt4, 64, true}}) {
    std::vector<std::unique_ptr<LinearWeight>> held;
    std::vector<ExpertWeights> experts;
    for (int64_t e = 0; e < count; ++e) {
      held.push_back(Make(RandomRows(2 * wide, hidden, format, random_), format));
      held.push_back(Make(RandomRows(hidden, wide, format, random_), format));
      experts.push_back({held[2 * e].get(), held[2 * e + 1].get()});
    }
    const at::Tensor x = random_.Tensor({tokens, hidden}, activations());
    Routing routing{at::empty({tokens, 2}, at::kInt), at::empty({tokens, 2}, at::kFloat)};
    for (int64_t t = 0; t < tokens; ++t) {  // most tokens share expert 3
      routing.experts.mutable_data_ptr<int32_t>()[2 * t] = 3;
      routing.experts.mutable_data_ptr<int32_t>()[2 * t + 1] = static_cast<int32_t>(t % 3);
      routing.weights.mutable_data_ptr<float>()[2 * t] = 0.25f;
      routing.weights.mutable_data_ptr<float>()[2 * t + 1] = 0.75f;
    }
    const at::Tensor y = ops_->Experts(x, routing, experts, Activation::kSilu, nullptr);
    for (int64_t t = 0; t < tokens; ++t) {
      at::Tensor expected = at::zeros({1, hidden}, at::kDouble);
      for (int64_t j = 0; j < 2; ++j) {
        const ExpertWeights& expert = experts[routing.experts.const_data_ptr<int32_t>()[2 * t + j]];
        const at::Tensor inner =
            ops_->Activate(expert.up->Forward(x.narrow(0, t, 1)), Activation::kSilu, /*gated=*/true);
        expected += expert.down->Forward(inner).to(at::kDouble) * routing.weights.const_data_ptr<float>()[2 * t + j];
      }
      EXPECT_LE(ErrorOf(y.narrow(0, t, 1), expected), activations() == at::kFloat ? 1e-6 : 6e-3)
          << NameOf(format) << " token " << t;
    }
  }
}

TEST_P(QuantizedTest, NonFiniteXGivesNonFiniteRowsAndNoOthers) {
  const QuantizedRows rows = RandomRows(40, 256, kInt8, random_);
  const auto weight = Make(rows, kInt8);
  const at::Tensor x = random_.Tensor({4, 256}, activations());
  x[1][200] = std::numeric_limits<double>::quiet_NaN();
  x[2][3] = std::numeric_limits<double>::infinity();
  x[3].zero_();
  const at::Tensor y = weight->Forward(x);
  EXPECT_TRUE(y[0].isfinite().all().item<bool>());
  EXPECT_FALSE(y[1].isfinite().any().item<bool>());
  EXPECT_FALSE(y[2].isfinite().any().item<bool>());
  EXPECT_TRUE(y[3].eq(0).all().item<bool>());
}

TEST_P(QuantizedTest, EmbeddingIsTheDequantizedRow) {
  for (const WeightFormat& format : Formats()) {
    const int64_t in = 300;
    const QuantizedRows rows = RandomRows(77, in, format, random_);
    const at::Tensor order = RandomOrder(in, random_);
    const auto weight = Make(rows, format, order);
    const at::Tensor ids = at::tensor(std::vector<int64_t>{76, 0, 31, 32, 33, 5, 5});
    // A product of a small whole number and fp32 is exact in double, so this rounds once, as the kernels do.
    const at::Tensor expected = Exact(rows, format, order).index_select(0, ids).to(at::kFloat).to(activations());
    EXPECT_TRUE(at::equal(weight->Lookup(ids), expected)) << NameOf(format);
    EXPECT_THROW(weight->Lookup(at::tensor(std::vector<int64_t>{77})), c10::Error);
  }
}

TEST_P(QuantizedTest, AnOrderIsThereOnceItIsSet) {
  const WeightFormat format{.kind = WeightKind::kInt4, .group = 32, .reordered = true};
  const auto weight = ops_->NewLinear(8, 64, false, dtype(), at::kCPU, format);
  const auto& quantized = dynamic_cast<const QuantizedWeight&>(*weight);
  EXPECT_EQ(quantized.order(), nullptr);
  const int64_t bytes = weight->bytes();
  weight->SetInputOrder(RandomOrder(64, random_));
  EXPECT_NE(quantized.order(), nullptr);
  EXPECT_EQ(weight->bytes(), bytes);
}

TEST_P(QuantizedTest, WeightsSetInPiecesByThreads) {
  const int64_t out = 64 * 5 + 21, in = 200;
  for (const WeightFormat& format : {kInt8, kFp8, WeightFormat{WeightKind::kInt4, 32, true}}) {
    const QuantizedRows rows = RandomRows(out, in, format, random_);
    const auto whole = Make(rows, format);
    const auto pieces = ops_->NewLinear(out, in, false, dtype(), at::kCPU, format);
    std::vector<std::thread> threads;
    for (int64_t begin = 0; begin < out; begin += 128) {  // each thread sets its own multiple of 64, in odd pieces
      threads.emplace_back([&, begin] {
        const int64_t end = std::min(begin + 128, out);
        int64_t n = 1;
        for (int64_t at = begin; at < end; at += n, n = n * 2 + 1) {
          n = std::min(n, end - at);
          const auto piece = [&](const at::Tensor& t) { return t.defined() ? t.narrow(0, at, n) : t; };
          pieces->SetQuantizedRows(at, {piece(rows.values), piece(rows.scales), piece(rows.zeros)});
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const at::Tensor x = random_.Tensor({3, in}, activations());
    EXPECT_TRUE(at::equal(whole->Forward(x), pieces->Forward(x))) << NameOf(format);
  }
}

TEST_P(QuantizedTest, BytesCountWhatIsHeld) {
  const auto bytes = [&](int64_t out, int64_t in, const WeightFormat& f) {
    const int64_t held = ops_->NewLinear(out, in, false, dtype(), at::kCPU, f)->bytes();
    EXPECT_EQ(held, CpuWeightBytes(out, in, false, c10::elementSize(dtype()), f));
    return held;
  };
  for (int64_t in : {33, 64}) {  // plain ones count their padding too
    EXPECT_EQ(ops_->NewLinear(33, in, true, dtype(), at::kCPU)->bytes(),
              CpuWeightBytes(33, in, true, c10::elementSize(dtype()), {}));
  }
  EXPECT_EQ(bytes(64, 256, kInt8), 64 * (256 + 4));
  EXPECT_EQ(bytes(64, 256, kFp8), 64 * (256 + 2 * 4));
  EXPECT_EQ(bytes(64, 256, {WeightKind::kInt4, 32}), 64 * (128 + 8 * 2));
  EXPECT_EQ(bytes(64, 256, {WeightKind::kInt4, 32, true}), 64 * (128 + 8 * 3));
  EXPECT_EQ(bytes(64, 256, {WeightKind::kInt4, 0}), 64 * (128 + 2));
  EXPECT_EQ(bytes(33, 33, kInt8), 64 * (64 + 4));
}

TEST_P(QuantizedTest, WhatDoesNotFitIsRefused) {
  const WeightFormat int4{WeightKind::kInt4, 32, true};
  auto weight = ops_->NewLinear(8, 64, false, dtype(), at::kCPU, int4);
  const QuantizedRows rows = RandomRows(8, 64, int4, random_);
  EXPECT_NO_THROW(weight->SetQuantizedRows(0, rows));
  const auto refused = [&](int64_t first, const at::Tensor& values, const at::Tensor& scales, const at::Tensor& zeros,
                           const std::string& word) {
    try {
      weight->SetQuantizedRows(first, {values, scales, zeros});
      ADD_FAILURE() << "accepted, expected an error with: " << word;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refused(1, rows.values, rows.scales, rows.zeros, "don't fit");
  refused(0, rows.values.narrow(1, 0, 32), rows.scales, rows.zeros, "don't fit");
  refused(0, rows.values.to(at::kChar), rows.scales, rows.zeros, "quantized values are");
  refused(0, rows.values, rows.scales.narrow(1, 0, 1), rows.zeros, "scales are");
  refused(0, rows.values, rows.scales.to(at::kHalf), rows.zeros, "scales are");
  refused(0, rows.values, rows.scales, {}, "zero points were not given");
  refused(0, rows.values, rows.scales, rows.zeros.to(at::kInt), "zero points are");
  refused(0, rows.values + 16, rows.scales, rows.zeros, "0 to 15");
  EXPECT_THROW(weight->SetInputOrder(at::zeros({64}, at::kInt)), c10::Error);
  EXPECT_THROW(weight->SetInputOrder(RandomOrder(63, random_)), c10::Error);
  EXPECT_THROW(weight->SetBias(0, at::zeros({8})), c10::Error);
  EXPECT_THROW(weight->Forward(random_.Tensor({1, 63}, activations())), c10::Error);
  EXPECT_THROW(ops_->NewLinear(8, 64, false, dtype(), at::kCPU, {WeightKind::kInt4, 48}), c10::Error);
  EXPECT_THROW(ops_->NewLinear(8, 64, false, dtype(), at::kCPU, {WeightKind::kFp8, 128, true}), c10::Error);
}

}  // namespace
}  // namespace causeway
