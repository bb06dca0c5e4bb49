// Runs the kernel that rotates and caches on the CPU (tests/support/cuda_emulator). All that it writes is the same, bit
// by bit, as what ReferenceOps writes, and the rest of the cache stays as it was.
#include "engine/cuda/rotary_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sin.h>
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
using testing::Span;
using testing::WatchedTensors;

struct Shape {
  int64_t heads = 4, kv_heads = 2, head_dim = 16, pairs = 8;
  at::ScalarType dtype = at::kFloat;
  bool int8 = false;
  int64_t shift = 0;
  std::vector<Span> spans = {{1, 40}, {5, 5}, {3, 70}};
};

// Whether all bits are the same, also those of what is no number.
bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.nbytes() == b.nbytes() &&
         (a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

class RotaryCacheTest : public ::testing::Test {
 protected:
  void SetUp() override { cuda_emulator::Restart(); }
  static void TearDownTestSuite() { std::cout << cuda_emulator::TakeCounts(); }

  KvLayer RandomCache(const Shape& s, int64_t blocks) {
    const auto side = [&] {
      const at::Tensor cells = random_.Tensor({blocks, s.kv_heads, kBlockTokens, s.head_dim}, at::kFloat, 20);
      return s.int8 ? cells.to(at::kChar) : cells.to(s.dtype);
    };
    const auto scales = [&] { return random_.Tensor({blocks, s.kv_heads, kBlockTokens}, at::kFloat); };
    if (!s.int8) return {side(), side(), {}, {}};
    return {side(), side(), scales(), scales()};
  }

  // `qkv` undefined: random.
  void ExpectReference(const Shape& s, at::Tensor qkv = {}) {
    SCOPED_TRACE(absl::StrCat("heads ", s.heads, " over ", s.kv_heads, ", head_dim ", s.head_dim, ", pairs ", s.pairs,
                              ", ", c10::toString(s.dtype), s.int8 ? ", int8" : "", ", shift ", s.shift));
    AttentionBatch batch;
    const int64_t blocks = testing::MakeBatch(s.spans, random_, batch), rows = batch.positions.size(0);
    if (!qkv.defined()) qkv = random_.Tensor({rows, (s.heads + 2 * s.kv_heads) * s.head_dim}, s.dtype);
    at::Tensor cos, sin;
    if (s.pairs > 0) {
      const at::Tensor angles = random_.Tensor({std::max<int64_t>(1, batch.context_max), s.pairs}, at::kFloat, 3);
      cos = at::cos(angles);
      sin = at::sin(angles);
    }
    KvLayer cache = RandomCache(s, blocks);

    WatchedTensors watched;
    const auto copy = [&](const char* name, const at::Tensor& t) { return watched.Output(name, t, s.shift); };
    const at::Tensor turned = copy("qkv", qkv), cosines = watched.Input("cos", cos), sines = watched.Input("sin", sin);
    const at::Tensor positions = watched.Input("positions", batch.positions),
                     slots = watched.Input("slots", batch.slots);
    const KvLayer written = {copy("keys", cache.keys), copy("values", cache.values),
                             watched.Output("key scales", cache.key_scales),
                             watched.Output("value scales", cache.value_scales)};
    RotaryCacheArguments a{};
    a.dtype = KernelType(s.dtype);
    a.qkv = turned.mutable_data_ptr();
    a.pairs = static_cast<int>(s.pairs);
    if (s.pairs > 0) {
      a.cos = cosines.const_data_ptr<float>();
      a.sin = sines.const_data_ptr<float>();
    }
    a.positions = positions.const_data_ptr<int64_t>();
    a.slots = slots.const_data_ptr<int64_t>();
    a.keys = written.keys.mutable_data_ptr();
    a.values = written.values.mutable_data_ptr();
    if (s.int8) {
      a.key_scales = written.key_scales.mutable_data_ptr<float>();
      a.value_scales = written.value_scales.mutable_data_ptr<float>();
    }
    a.rows = static_cast<int>(rows);
    a.heads = static_cast<int>(s.heads);
    a.kv_heads = static_cast<int>(s.kv_heads);
    a.head_dim = static_cast<int>(s.head_dim);
    EXPECT_EQ(LaunchRotaryCache(a, nullptr), cudaSuccess);
    EXPECT_EQ(cuda_emulator::TakeFault(), "");

    if (rows > 0) reference_.RotaryAndCache(qkv, cos, sin, s.heads, s.kv_heads, s.head_dim, batch, cache);
    const int64_t queries = s.heads * s.head_dim;
    EXPECT_TRUE(SameBits(turned.narrow(1, 0, queries).contiguous(), qkv.narrow(1, 0, queries).contiguous()));
    EXPECT_TRUE(SameBits(written.keys, cache.keys)) << "keys";
    EXPECT_TRUE(SameBits(written.values, cache.values)) << "values";
    if (!s.int8) return;
    EXPECT_TRUE(SameBits(written.key_scales, cache.key_scales)) << "key scales";
    EXPECT_TRUE(SameBits(written.value_scales, cache.value_scales)) << "value scales";
  }

  c10::InferenceMode guard_;
  testing::Random random_{23};
  ReferenceOps reference_;
};

TEST_F(RotaryCacheTest, HeadSizesInEveryType) {
  for (const int64_t head_dim : {2, 7, 16, 31, 32, 33, 64, 65, 80, 96, 128, 160, 256, 320}) {
    for (const at::ScalarType dtype : kKernelTypes) {
      for (const bool int8 : {false, true}) {
        for (const int64_t pairs : {int64_t{0}, head_dim / 4, head_dim / 2})
          ExpectReference({.head_dim = head_dim, .pairs = pairs, .dtype = dtype, .int8 = int8});
      }
    }
  }
  EXPECT_EQ(cuda_emulator::KernelsSeen(), 2) << "of those that rotary_cache.cu launches";
}

TEST_F(RotaryCacheTest, GroupsOfHeads) {
  struct Heads {
    int64_t heads, kv_heads;
  };
  for (const auto& [heads, kv_heads] : {Heads{1, 1}, {5, 5}, {4, 1}, {7, 1}, {71, 1}, {9, 3}, {32, 4}}) {
    for (const int64_t pairs : {0, 8})
      ExpectReference({.heads = heads, .kv_heads = kv_heads, .pairs = pairs, .dtype = at::kBFloat16});
  }
}

TEST_F(RotaryCacheTest, NoRowsOneRowAndMany) {
  for (const bool int8 : {false, true}) {
    ExpectReference({.int8 = int8, .spans = {}});
    ExpectReference({.int8 = int8, .spans = {{0, 9}}});
    ExpectReference({.int8 = int8, .spans = {{1, 1}}});
    ExpectReference({.int8 = int8, .spans = {{1, 4000}}});
    ExpectReference({.dtype = at::kBFloat16, .int8 = int8, .spans = {{600, 600}, {17, 33}}});
  }
}

TEST_F(RotaryCacheTest, WhatIsNotAligned) {
  for (const at::ScalarType dtype : kKernelTypes) ExpectReference({.dtype = dtype, .shift = 1});
}

TEST_F(RotaryCacheTest, RowsOfZerosAndTheSmallestNumbers) {
  const Shape shape = {.heads = 1, .kv_heads = 1, .int8 = true, .spans = {{3, 3}}};
  at::Tensor qkv = random_.Tensor({3, 48}, at::kFloat);
  qkv[0].zero_();
  qkv[1].mul_(1e-37);
  qkv[2].mul_(1e30);
  ExpectReference(shape, qkv);
}

// A key or value that is no number makes its scale none, so that the step's end finds it.
TEST_F(RotaryCacheTest, WhatIsNoNumberStaysNone) {
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const int64_t place : {0, 15, 33}) {
      WatchedTensors watched;
      at::Tensor qkv = random_.Tensor({1, 3 * 64}, at::kFloat);
      qkv.narrow(1, 64, 64)[0][place] = wrong;
      qkv.narrow(1, 128, 64)[0][place] = wrong;
      qkv = watched.Output("qkv", qkv);
      const at::Tensor numbers = watched.Output("keys", at::full({2, 1, kBlockTokens, 64}, 1, at::kChar));
      const at::Tensor scales = watched.Output("scales", at::full({2, 1, kBlockTokens}, 1, at::kFloat));
      const at::Tensor one = watched.Input("positions", at::full({1}, 1, at::kLong));
      RotaryCacheArguments a{};
      a.qkv = qkv.mutable_data_ptr();
      a.positions = a.slots = one.const_data_ptr<int64_t>();
      a.keys = a.values = numbers.mutable_data_ptr();
      a.key_scales = scales.mutable_data_ptr<float>();
      a.value_scales = a.key_scales + kBlockTokens;
      a.rows = a.heads = a.kv_heads = 1;
      a.head_dim = 64;
      EXPECT_EQ(LaunchRotaryCache(a, nullptr), cudaSuccess);
      EXPECT_EQ(cuda_emulator::TakeFault(), "");
      for (const int side : {0, 1}) EXPECT_FALSE(std::isfinite(scales[side][0][1].item<float>())) << side;
    }
  }
}

}  // namespace
}  // namespace causeway
