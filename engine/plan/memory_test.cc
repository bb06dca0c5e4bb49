#include "engine/plan/memory.h"

#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/architecture/quantization.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

TEST(ActivationBytesTest, GrowsWithTheStepAndWithWhatIsHeld) {
  const ModelSpec spec = TestLlama({.layers = 4, .hidden = 64, .intermediate = 256, .vocab = 2048});
  PlanOptions options = TestOptions("auto");
  const int64_t all = ActivationBytes(spec, {0, 1, 2, 3, 4, 5, 6}, options);
  for (const std::vector<int>& units : std::vector<std::vector<int>>{{0}, {1}, {1, 2, 3}, {5}, {6}, {4, 5}}) {
    EXPECT_LE(ActivationBytes(spec, units, options), all);
    EXPECT_GE(ActivationBytes(spec, units, options), 2 * 32 * 64 * 2);
  }
  EXPECT_EQ(ActivationBytes(spec, {}, options), 0);
  EXPECT_EQ(ActivationBytes(spec, {2}, options), ActivationBytes(spec, {2, 3}, options));
  options.max_num_batched_tokens = 4096;
  EXPECT_GT(ActivationBytes(spec, {1}, options), 4096 * (2 * 64 + 512 + 256) * 2);
  options.max_num_seqs = 128;
  EXPECT_GT(ActivationBytes(spec, {6}, options), 128 * 2048 * 2);
  const int64_t fused = ActivationBytes(spec, {1}, options);
  options.reference_ops = true;
  EXPECT_GT(ActivationBytes(spec, {1}, options), fused);
}

// Who computes decides what a step holds: the reference wherever there is no kernel.
TEST(ActivationBytesTest, WideHeadsOnCudaAreTheReferences) {
  PlanOptions options = TestOptions("auto");
  // Keys and values of one sequence of the context, gathered in fp32.
  options.max_num_batched_tokens = 32;
  const ModelSpec wide = TestLlama({.hidden = 640, .heads = 2, .kv_heads = 2, .context = 65536});
  EXPECT_GT(ActivationBytes(wide, {1}, options, DeviceKind::kCuda), 2 * 2 * int64_t{65536} * 320 * 4);
  const ModelSpec narrow = TestLlama({.hidden = 512, .heads = 2, .kv_heads = 2, .context = 65536});
  EXPECT_LT(ActivationBytes(narrow, {1}, options, DeviceKind::kCuda), 2 * 2 * int64_t{65536} * 256 * 4);
}

TEST(ActivationBytesTest, BesideHalvesTheCpuComputesInFp32) {
  const ModelSpec spec = TestLlama({.hidden = 64, .intermediate = 2048});
  PlanOptions halves = TestOptions("auto", DType::kF16), floats = TestOptions("auto", DType::kF32),
              bf16 = TestOptions("auto", DType::kBF16);
  for (PlanOptions* options : {&halves, &floats, &bf16}) options->max_num_batched_tokens = 1024;
  for (const int unit : {0, 1, 6}) {
    EXPECT_EQ(ActivationBytes(spec, {unit}, halves), ActivationBytes(spec, {unit}, floats));
    EXPECT_EQ(ActivationBytes(spec, {unit}, halves, DeviceKind::kCuda),
              ActivationBytes(spec, {unit}, bf16, DeviceKind::kCuda));
  }
  EXPECT_EQ(HandoffBytes(spec, halves, 3, DeviceKind::kSimulated),
            2 * HandoffBytes(spec, halves, 3, DeviceKind::kCuda));
  EXPECT_EQ(LayerKvBytesPerToken(spec, halves), LayerKvBytesPerToken(spec, bf16));
  // The reference computes in fp16 throughout.
  const int64_t fused = ActivationBytes(spec, {1}, halves);
  halves.reference_ops = bf16.reference_ops = true;
  EXPECT_EQ(ActivationBytes(spec, {1}, halves), ActivationBytes(spec, {1}, bf16));
  EXPECT_NE(ActivationBytes(spec, {1}, halves), fused);
}

TEST(ActivationBytesTest, FusedLinearsOfWholeNumbersCopyLess) {
  ModelSpec spec = TestLlama({.hidden = 1024, .intermediate = 256});
  PlanOptions options = TestOptions("auto");
  options.max_num_batched_tokens = 1024;
  PlanOptions wide = options;
  wide.dtype = DType::kF32;
  const int64_t plain = ActivationBytes(spec, {1}, options), plain_wide = ActivationBytes(spec, {1}, wide);
  ASSERT_TRUE(QuantizeOnLoad(*ParseQuantize("int4"), spec).ok());
  EXPECT_LT(ActivationBytes(spec, {1}, options), plain);
  EXPECT_EQ(ActivationBytes(spec, {1}, wide), plain_wide);
}

TEST(ActivationBytesTest, OnCudaTheDeviceSamplesWhoeverComputes) {
  const ModelSpec spec = TestLlama({.vocab = 50000});
  PlanOptions options = TestOptions("auto");
  for (const bool reference : {false, true}) {
    options.reference_ops = reference;
    EXPECT_GT(ActivationBytes(spec, {6}, options, DeviceKind::kCuda), 4 * 50000 * 64);
    EXPECT_LT(ActivationBytes(spec, {6}, options, DeviceKind::kCpu), 4 * 50000 * 64);
  }
}

// A layer of `count` experts as large as the layer's MLP was, `chosen` for each token.
LayerSpec WithExperts(LayerSpec layer, int64_t count, int64_t chosen) {
  MoeSpec moe;
  moe.router = {.parts = {{"gate", "", count}}, .in_features = layer.mlp.up.in_features};
  moe.rule.experts_per_token = chosen;
  moe.experts.assign(count, layer.mlp);
  layer.moe = std::move(moe);
  return layer;
}

TEST(ActivationBytesTest, ExpertsHoldARowForEachChoice) {
  const ModelSpec spec = TestLlama({.hidden = 64, .intermediate = 256});
  const LayerSpec& dense = spec.layers[0];
  PlanOptions options = TestOptions("auto");
  options.max_num_batched_tokens = 1024;
  for (const bool reference : {false, true}) {
    options.reference_ops = reference;
    const auto bytes = [&](const LayerSpec& layer) {
      return LayerActivationBytes(spec, layer, options, DeviceKind::kCpu);
    };
    EXPECT_GT(bytes(WithExperts(dense, 8, 1)), bytes(dense));
    // Gathered rows, in and out, of each choice.
    EXPECT_GE(bytes(WithExperts(dense, 8, 4)) - bytes(WithExperts(dense, 8, 2)), 2 * 1024 * 64 * 2);
    // Experts that nobody chooses hold nothing.
    EXPECT_EQ(bytes(WithExperts(dense, 8, 4)), bytes(WithExperts(dense, 16, 4)));
  }
  options.reference_ops = false;
  EXPECT_GE(LayerActivationBytes(spec, WithExperts(dense, 8, 4), options, DeviceKind::kCpu), 4 * 1024 * (64 + 512) * 2);
}

}  // namespace
}  // namespace causeway
