// Runs attention's kernels on the CPU (tests/support/cuda_emulator) and compares them with ReferenceOps. What a kernel
// must not read is NaN: tokens after a context, blocks of nobody, keys and values in qkv, shared memory at first.
#include "engine/cuda/paged_attention.h"

#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/cuda/attention_arguments.h"
#include "engine/ops/ops_testing.h"
#include "engine/ops/reference.h"
#include "tests/support/cuda_emulator/emulator.h"
#include "tests/support/cuda_emulator/guarded_memory.h"

namespace causeway {
namespace {

using cuda_emulator::GuardedMemory;
using testing::Span;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  int64_t heads = 4, kv_heads = 2, head_dim = 16, window = 0;
  at::ScalarType dtype = at::kFloat;
  bool int8 = false;
  int splits = 1;
  double deviation = 1;  // of the queries: large ones make a softmax of one token
  std::vector<Span> spans = {{1, 40}, {5, 5}, {3, 70}};
};

std::string Describe(const Shape& s) {
  std::string text = absl::StrCat("heads ", s.heads, " over ", s.kv_heads, ", head_dim ", s.head_dim, ", window ",
                                  s.window, ", ", c10::toString(s.dtype), s.int8 ? ", int8" : "", ", splits ", s.splits,
                                  ", deviation ", s.deviation, ", rows/context:");
  for (size_t i = 0; i < s.spans.size() && i < 8; ++i) {
    absl::StrAppend(&text, " ", s.spans[i].rows, "/", s.spans[i].context);
  }
  return text;
}

class PagedAttentionTest : public ::testing::Test {
 protected:
  void SetUp() override { cuda_emulator::Restart(); }
  static void TearDownTestSuite() {
    std::cout << "[emulated] " << shapes << " shapes compared with the reference\n" << cuda_emulator::TakeCounts();
  }

  // A copy that a kernel can only read, and not beyond its ends.
  at::Tensor Guarded(const char* name, const at::Tensor& t) {
    if (!t.defined()) return t;
    const at::Tensor source = t.contiguous();
    memory_.push_back(std::make_unique<GuardedMemory>(name, source.nbytes()));
    if (source.nbytes() > 0) std::memcpy(memory_.back()->data(), source.const_data_ptr(), source.nbytes());
    memory_.back()->MakeReadOnly();
    return at::from_blob(memory_.back()->data(), source.sizes(), source.options());
  }

  // Whether a slot of the cache holds a token of the batch: [blocks, 1, kBlockTokens].
  static at::Tensor Filled(const AttentionBatch& batch, int64_t blocks) {
    at::Tensor filled = at::zeros({blocks, 1, kBlockTokens}, at::kBool);
    for (size_t s = 0; s < batch.context_lens_host.size(); ++s) {
      const int32_t* table = batch.block_tables[static_cast<int64_t>(s)].const_data_ptr<int32_t>();
      for (int32_t t = 0; t < batch.context_lens_host[s]; ++t) {
        filled.mutable_data_ptr<bool>()[table[t / kBlockTokens] * kBlockTokens + t % kBlockTokens] = true;
      }
    }
    return filled;
  }

  KvLayer RandomCache(const Shape& shape, const AttentionBatch& batch, int64_t blocks) {
    const at::Tensor nobodys = Filled(batch, blocks).logical_not();
    const auto cells = [&](double deviation) {
      return random_.Tensor({blocks, shape.kv_heads, kBlockTokens, shape.head_dim}, at::kFloat, deviation);
    };
    if (!shape.int8) {
      const auto side = [&] { return cells(1).masked_fill_(nobodys.unsqueeze(-1), kNan).to(shape.dtype); };
      return {side(), side(), {}, {}};
    }
    const auto side = [&] { return cells(40).clamp_(-kKvInt8Max, kKvInt8Max).to(at::kChar); };
    const auto scales = [&] {
      return random_.Tensor({blocks, shape.kv_heads, kBlockTokens}, at::kFloat, 0.02)
          .abs_()
          .masked_fill_(nobodys, kNan);
    };
    return {side(), side(), scales(), scales()};
  }

  // Runs the kernels on this shape and compares with the reference in fp32 over the same numbers.
  void ExpectReference(const Shape& shape) {
    SCOPED_TRACE(Describe(shape));
    ++shapes;
    memory_.clear();
    AttentionBatch batch;
    const int64_t blocks = testing::MakeBatch(shape.spans, random_, batch);
    const int64_t rows = batch.positions.size(0), width = shape.heads * shape.head_dim;
    at::Tensor qkv =
        random_.Tensor({rows, (shape.heads + 2 * shape.kv_heads) * shape.head_dim}, shape.dtype, shape.deviation);
    qkv.narrow(1, width, qkv.size(1) - width).fill_(kNan);
    KvLayer cache = RandomCache(shape, batch, blocks);
    const double scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    const KvLayer wide{shape.int8 ? cache.keys : cache.keys.to(at::kFloat),
                       shape.int8 ? cache.values : cache.values.to(at::kFloat), cache.key_scales, cache.value_scales};
    const at::Tensor expected = reference_.PagedAttention(qkv.to(at::kFloat), shape.heads, shape.kv_heads,
                                                          shape.head_dim, scale, shape.window, batch, wide);

    batch.positions = Guarded("positions", batch.positions);
    batch.block_tables = Guarded("block_tables", batch.block_tables);
    batch.query_start = Guarded("query_start", batch.query_start);
    cache = {Guarded("keys", cache.keys), Guarded("values", cache.values), Guarded("key_scales", cache.key_scales),
             Guarded("value_scales", cache.value_scales)};
    qkv = Guarded("qkv", qkv);
    ASSERT_TRUE(HasPagedAttentionKernel(qkv, shape.head_dim, cache));
    PagedAttentionArguments a =
        AttentionArguments(qkv, shape.heads, shape.kv_heads, shape.head_dim, scale, shape.window, batch, cache);
    a.splits = shape.splits;
    const at::Tensor got = Run(a, shape.dtype);
    // Another order of threads and blocks gives the same bits.
    if (shapes % 8 == 0) {
      ASSERT_TRUE(at::equal(got, Run(a, shape.dtype)));
    }

    const double epsilon = shape.dtype == at::kFloat ? 4e-6 : shape.dtype == at::kHalf ? 1. / 2048 : 1. / 256;
    ASSERT_TRUE(at::allclose(got.to(at::kFloat), expected, epsilon, 8e-6))
        << "the largest error is " << (got.to(at::kFloat) - expected).abs().max().item<float>();
  }

  at::Tensor Run(PagedAttentionArguments a, at::ScalarType dtype) {
    const int64_t width = int64_t{a.heads} * a.head_dim, element_bytes = c10::elementSize(dtype);
    const GuardedMemory output("output", a.rows * width * element_bytes);
    const GuardedMemory partial("partial", PagedAttentionPartialFloats(a.rows, a.heads, a.head_dim, a.splits) * 4);
    a.output = output.data();
    a.partial = partial.data<float>();
    EXPECT_EQ(LaunchPagedAttention(a, nullptr), cudaSuccess);
    EXPECT_EQ(cuda_emulator::TakeFault(), "");
    return at::from_blob(output.data(), {a.rows, width}, dtype).clone();
  }

  inline static int shapes = 0;
  c10::InferenceMode guard_;
  testing::Random random_{15};
  ReferenceOps reference_;
  std::vector<std::unique_ptr<GuardedMemory>> memory_;
};

TEST_F(PagedAttentionTest, HeadSizesInEveryType) {
  for (const int64_t head_dim : {7, 8, 16, 31, 32, 33, 63, 64, 65, 80, 96, 127, 128, 129, 160, 192, 255, 256}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const bool int8 : {false, true}) {
        ExpectReference({.head_dim = head_dim, .dtype = dtype, .int8 = int8, .splits = int8 ? 1 : 2});
      }
    }
  }
  EXPECT_EQ(cuda_emulator::KernelsSeen(), 4) << "of those that paged_attention.cu launches";
}

TEST_F(PagedAttentionTest, GroupsOfHeads) {
  struct Heads {
    int64_t heads, kv_heads;
  };
  for (const auto& [heads, kv_heads] :
       {Heads{1, 1}, {5, 5}, {4, 1}, {7, 1}, {8, 1}, {71, 1}, {9, 3}, {15, 3}, {32, 4}}) {
    for (const int splits : {1, 3}) {
      ExpectReference({.heads = heads, .kv_heads = kv_heads, .head_dim = 20, .splits = splits});
    }
  }
}

TEST_F(PagedAttentionTest, Windows) {
  for (const int64_t window : {1, 2, 15, 16, 17, 40, 1000}) {
    for (const int splits : {1, 2, 7}) {
      for (const bool int8 : {false, true}) {
        ExpectReference({.window = window, .int8 = int8, .splits = splits, .spans = {{1, 90}, {3, 33}, {19, 19}}});
      }
    }
  }
}

TEST_F(PagedAttentionTest, ContextsAroundTheBordersOfPartsAndBlocks) {
  std::vector<Span> spans;
  for (const int32_t context :
       {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1025}) {
    spans.push_back({1, context});
  }
  spans.push_back({4, 258});
  for (const int splits : {1, 2, 3, 7, 16, 64}) {
    for (const bool int8 : {false, true}) {
      ExpectReference({.heads = 2, .kv_heads = 1, .head_dim = 24, .int8 = int8, .splits = splits, .spans = spans});
    }
  }
}

TEST_F(PagedAttentionTest, NoRowsOneRowAndSequencesWithoutRows) {
  for (const int splits : {1, 4}) {
    ExpectReference({.splits = splits, .spans = {}});
    ExpectReference({.splits = splits, .spans = {{0, 9}}});
    ExpectReference({.splits = splits, .spans = {{1, 1}}});
    ExpectReference({.splits = splits, .spans = {{1, 300}}});
    ExpectReference({.splits = splits, .spans = {{0, 9}, {2, 9}, {0, 17}, {0, 1}, {1, 30}, {0, 5}}});
  }
}

TEST_F(PagedAttentionTest, RowsByTheThousand) {
  ExpectReference({.heads = 2, .kv_heads = 1, .window = 24, .dtype = at::kBFloat16, .spans = {{2048, 2048}}});
  ExpectReference({.heads = 1, .kv_heads = 1, .head_dim = 8, .spans = std::vector<Span>(16, {128, 128})});
  ExpectReference({.heads = 2, .kv_heads = 2, .int8 = true, .splits = 2, .spans = std::vector<Span>(2048, {1, 21})});
}

TEST_F(PagedAttentionTest, LargeScores) {
  for (const double deviation : {30., 1000.}) {
    for (const int splits : {1, 5}) ExpectReference({.splits = splits, .deviation = deviation});
  }
}

TEST_F(PagedAttentionTest, RandomShapes) {
  for (int round = 0; round < 60; ++round) {
    Shape shape;
    shape.kv_heads = random_.Between(1, 4);
    shape.heads = shape.kv_heads * random_.Between(1, 8);
    shape.head_dim = random_.Between(7, 256);
    shape.window = random_.Between(0, 2) == 0 ? random_.Between(1, 60) : 0;
    shape.dtype = std::vector<at::ScalarType>{at::kFloat, at::kBFloat16, at::kHalf}[random_.Between(0, 2)];
    shape.int8 = random_.Between(0, 1) == 0;
    shape.splits = static_cast<int>(random_.Between(0, 1) == 0 ? 1 : random_.Between(2, 12));
    shape.spans.clear();
    for (int64_t s = random_.Between(1, 4); s > 0; --s) {
      const int32_t n = static_cast<int32_t>(random_.Between(0, 6));
      shape.spans.push_back({n, n + static_cast<int32_t>(random_.Between(n == 0 ? 1 : 0, 60))});
    }
    ExpectReference(shape);
  }
}

TEST_F(PagedAttentionTest, WhatTheKernelCannotDoIsRefused) {
  PagedAttentionArguments a{};
  a.rows = a.sequences = a.splits = a.kv_heads = a.heads = 1;
  a.head_dim = 257;
  EXPECT_EQ(LaunchPagedAttention(a, nullptr), cudaErrorInvalidValue);
  a.head_dim = 64;
  a.kv_heads = 2;
  EXPECT_EQ(LaunchPagedAttention(a, nullptr), cudaErrorInvalidValue);
  const at::Tensor wide = random_.Tensor({1, 3 * 257}, at::kFloat), doubles = wide.to(at::kDouble);
  EXPECT_FALSE(HasPagedAttentionKernel(wide, 257, KvLayer{wide, wide, {}, {}}));
  EXPECT_FALSE(HasPagedAttentionKernel(doubles, 64, KvLayer{doubles, doubles, {}, {}}));
  EXPECT_FALSE(HasPagedAttentionKernel(wide, 64, KvLayer{doubles, doubles, {}, {}}));
  EXPECT_FALSE(HasPagedAttentionKernel(wide, 64, KvLayer{wide, wide, wide, wide}));
}

TEST_F(PagedAttentionTest, SplitsKeepAllMultiprocessorsBusy) {
  EXPECT_EQ(PagedAttentionSplits(0, 8, 0, 132), 1);    // a step whose rows another device computes
  EXPECT_EQ(PagedAttentionSplits(1, 8, 255, 132), 1);  // too short to be cut
  EXPECT_EQ(PagedAttentionSplits(1, 8, 1024, 132), 4);
  EXPECT_EQ(PagedAttentionSplits(1, 8, 131072, 132), 33);
  EXPECT_EQ(PagedAttentionSplits(1, 1, 131072, 132), 64);  // the most
  EXPECT_EQ(PagedAttentionSplits(64, 8, 131072, 132), 1);
}

}  // namespace
}  // namespace causeway
