// Whole models by the kernels, run on the CPU (tests/support/cuda_emulator), give the tokens of ReferenceOps.
#include "engine/cuda/kernel_ops.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/model/testing.h"
#include "engine/ops/ops_testing.h"
#include "tests/support/cuda_emulator/emulator.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using testing::OneSequence;

// On CPU tensors.
class EmulatedOps final : public KernelOps {
 public:
  EmulatedOps() : KernelOps(at::kCPU) {}

 protected:
  cudaStream_t Stream() override { return nullptr; }
  int Multiprocessors(const at::Device&) override { return 132; }
  void Check(cudaError_t launched) override {
    const std::string fault = cuda_emulator::TakeFault();
    TORCH_CHECK(launched == cudaSuccess && fault.empty(), "a launch failed: ", static_cast<int>(launched), ", ", fault);
  }
};

// One whose tensors would be elsewhere.
class ElsewhereOps final : public KernelOps {
 public:
  ElsewhereOps() : KernelOps(at::kCUDA) {}

 protected:
  cudaStream_t Stream() override { return nullptr; }
  int Multiprocessors(const at::Device&) override { return 1; }
  void Check(cudaError_t) override { ADD_FAILURE() << "a kernel was launched"; }
};

struct Generated {
  std::vector<int64_t> text;  // the prompt, and what is generated greedily
  at::Tensor logits;          // fp32, of all rows
};

// Reads a prompt in two steps and generates, or reads `text` as if it were generated.
Generated Generate(const TinyCheckpoint& tiny, Ops& ops, at::ScalarType dtype, bool int8_kv,
                   std::vector<int64_t> text = {}) {
  constexpr int64_t kPrompt = 19, kChunk = 17, kTokens = 4;
  const ModelSpec& spec = tiny.spec();
  const ModelContext context{spec, ops, at::Device(at::kCPU), dtype, {}};
  DeviceModel model(context, testing::AllUnits(spec));
  EXPECT_TRUE(LoadWeights(spec, tiny.checkpoint(), {model.Targets()}, {}).ok());
  KvCache cache(context, model.layers(), 2, int8_kv);
  const RotaryTables rotary = MakeRotaryTables(spec.rope, 64);
  const int head = static_cast<int>(spec.layers.size()) + 2;
  const bool given = !text.empty();
  for (int64_t i = 0; !given && i < kPrompt; ++i) text.push_back((7 * i + 3) % 90);
  std::vector<at::Tensor> logits;
  for (int64_t done = 0; done < kPrompt + kTokens;) {
    const int64_t end = done == 0 ? kChunk : std::max(done + 1, kPrompt);
    const AttentionBatch batch = OneSequence(done, end - done);
    const at::Tensor ids = at::tensor(std::vector<int64_t>(text.begin() + done, text.begin() + end));
    logits.push_back(model.Forward({0, head}, {.ids = ids, .batch = &batch}, rotary, cache).to(at::kFloat));
    done = end;
    if (!given && done >= kPrompt) text.push_back(logits.back()[-1].argmax().item<int64_t>());
  }
  return {std::move(text), at::cat(logits, 0)};
}

class KernelOpsTest : public ::testing::TestWithParam<Json> {
 protected:
  KernelOpsTest() { cuda_emulator::Restart(); }
  static void TearDownTestSuite() { std::cout << cuda_emulator::TakeCounts(); }

  c10::InferenceMode inference_;
};

TEST_P(KernelOpsTest, ModelsGiveTheTokensOfTheReference) {
  ReferenceOps reference;
  EmulatedOps kernels;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const TinyCheckpoint tiny(GetParam(), 1, dtype == at::kFloat ? DType::kF32 : DType::kBF16);
    for (const bool int8_kv : {false, true}) {
      SCOPED_TRACE(absl::StrCat(c10::toString(dtype), int8_kv ? ", int8 KV cache" : ""));
      const Generated expected = Generate(tiny, reference, dtype, int8_kv),
                      got = Generate(tiny, kernels, dtype, int8_kv, expected.text);
      const at::Tensor error = (got.logits - expected.logits).abs().amax(1),
                       other = got.logits.argmax(1) != expected.logits.argmax(1);
      const double largest = expected.logits.abs().max().item<double>(),
                   allowed = largest * (dtype == at::kBFloat16          ? 2e-2
                                        : dtype == at::kHalf || int8_kv ? 5e-3  // a cached integer may be the next one
                                                                        : 1e-5);
      const int64_t rows = error.size(0), off = (error > allowed).sum().item<int64_t>(),
                    others = other.sum().item<int64_t>();
      std::cout << "[parity] " << c10::toString(dtype) << (int8_kv ? ", int8 KV cache" : "")
                << ": the largest error is " << error.max().item<double>() << " of " << largest << "; " << others
                << " of " << rows << " tokens differ\n";
      // Between two experts, a last place may decide.
      EXPECT_LE(off, tiny.spec().layers.back().moe.has_value() ? rows / 5 : 0);
      EXPECT_LE(others, dtype == at::kFloat ? 0 : rows / 10) << "between words that are as likely, too";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, KernelOpsTest,
                         ::testing::Values(TinyLlama({{"attention_bias", true}, {"head_dim", 24}}),
                                           TinyLlama({{"model_type", "qwen3"},
                                                      {"head_dim", 24},
                                                      {"use_sliding_window", true},
                                                      {"sliding_window", 9},
                                                      {"max_window_layers", 1}}),
                                           TinyGpt2(), TinyQwen3Moe()));

// The CPU computes experts that lie in its memory.
TEST(KernelOpsElsewhereTest, TensorsOfOtherDevicesAreTheReferences) {
  const c10::InferenceMode inference;
  testing::Random random(1);
  ElsewhereOps ops;
  ReferenceOps reference;
  const at::Tensor x = random.Tensor({3, 32}, at::kBFloat16), weight = random.Tensor({32}, at::kBFloat16);
  EXPECT_TRUE(at::equal(ops.Activate(x, Activation::kSilu, true), reference.Activate(x, Activation::kSilu, true)));
  EXPECT_TRUE(at::equal(ops.RmsNorm(x, {}, weight, 1e-5), reference.RmsNorm(x, {}, weight, 1e-5)));
}

// A wrong shape is an error before anything is launched.
TEST(KernelOpsShapesTest, WhatKernelsWouldReadWildlyIsRefused) {
  const c10::InferenceMode inference;
  testing::Random random(1);
  EmulatedOps ops;
  at::Tensor x = random.Tensor({3, 32}, at::kFloat);
  const at::Tensor narrow = random.Tensor({31}, at::kFloat), weight = random.Tensor({32}, at::kFloat);
  EXPECT_THROW(ops.RmsNorm(x, {}, narrow, 1e-5), c10::Error);
  EXPECT_THROW(ops.RmsNorm(x, x.narrow(0, 0, 2), weight, 1e-5), c10::Error);
  EXPECT_THROW(ops.LayerNorm(x, {}, weight, narrow, 1e-5), c10::Error);
  EXPECT_THROW(ops.NormColumns(x, 1, 1, 32, weight, 1e-5), c10::Error);
  EXPECT_THROW(ops.Activate(x.transpose(0, 1), Activation::kSilu, false), c10::Error);
  KvLayer cache{random.Tensor({1, 1, 16, 8}, at::kFloat), random.Tensor({1, 1, 16, 8}, at::kFloat), {}, {}};
  EXPECT_THROW(ops.RotaryAndCache(x, {}, {}, 2, 1, 8, OneSequence(0, 2), cache), c10::Error);
  EXPECT_THROW(ops.RotaryAndCache(x, {}, {}, 1, 1, 16, OneSequence(0, 3), cache), c10::Error);
}

}  // namespace
}  // namespace causeway
