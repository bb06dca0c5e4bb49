// Compares the CUDA library's operations on device 0 with the reference on the CPU, over seeded random shapes.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include <ATen/Context.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/max.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"

namespace causeway {
namespace {

// CAUSEWAY_ROUNDS: fewer, for tools that make each of them slow.
int Rounds() {
  const char* wished = std::getenv("CAUSEWAY_ROUNDS");
  return wished == nullptr ? 60 : std::atoi(wished);
}

class CudaOpsTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto library = LoadCudaLibrary();
    ASSERT_TRUE(library.ok()) << library.status();
    const absl::StatusOr<std::vector<Device>> devices = (*library)->devices();
    ASSERT_TRUE(devices.ok()) << devices.status();
    DevicePlan plan;
    plan.device = devices->front();
    plan.budget = devices->front().available_bytes;
    auto runtime = (*library)->make_runtime(plan, /*reference_ops=*/false);
    ASSERT_TRUE(runtime.ok()) << runtime.status();
    runtime_ = *std::move(runtime);
    runtime_->EnterThread(1);
    ops_ = runtime_->MakeOps();
  }

  c10::InferenceMode guard_;
  std::unique_ptr<DeviceRuntime> runtime_;
  std::unique_ptr<Ops> ops_;
};

TEST_F(CudaOpsTest, PagedAttentionIsTheReferences) {
  std::mt19937 random(1);
  for (int round = 0; round < Rounds(); ++round) {
    const int64_t kv_heads = 1 + random() % 4, heads = kv_heads * (1 + random() % 8);
    const int64_t head_dim = std::vector<int64_t>{16, 64, 80, 128, 256}[random() % 5];
    const int64_t window = random() % 3 == 0 ? 1 + random() % 40 : 0;
    const int sequences = 1 + random() % 4;
    std::vector<int32_t> query_start = {0}, context;
    std::vector<int64_t> positions;
    int64_t context_max = 0;
    for (int s = 0; s < sequences; ++s) {
      const int rows = random() % 2 == 0 ? 1 : 1 + random() % 20;
      const int past = random() % 3 == 0 ? 1500 + random() % 1500 : random() % 100;
      for (int r = 0; r < rows; ++r) positions.push_back(past + r);
      query_start.push_back(query_start.back() + rows);
      context.push_back(past + rows);
      context_max = std::max<int64_t>(context_max, past + rows);
    }
    const int64_t width = BlocksFor(context_max), blocks = width * sequences + 1;
    std::vector<int32_t> table(width * sequences);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i) + 1;
    std::shuffle(table.begin(), table.end(), random);

    AttentionBatch host;
    host.positions = at::from_blob(positions.data(), {static_cast<int64_t>(positions.size())}, at::kLong).clone();
    host.block_tables = at::from_blob(table.data(), {sequences, width}, at::kInt).clone();
    host.query_start = at::from_blob(query_start.data(), {sequences + 1}, at::kInt).clone();
    host.context_lens = at::from_blob(context.data(), {sequences}, at::kInt).clone();
    host.query_start_host = query_start;
    host.context_lens_host = context;
    host.context_max = context_max;
    AttentionBatch device = host;
    device.positions = host.positions.to(runtime_->device());
    device.block_tables = host.block_tables.to(runtime_->device());
    device.query_start = host.query_start.to(runtime_->device());
    device.context_lens = host.context_lens.to(runtime_->device());

    at::manual_seed(round);
    const at::Tensor qkv = at::randn({static_cast<int64_t>(positions.size()), (heads + 2 * kv_heads) * head_dim});
    KvLayer cache{at::randn({blocks, kv_heads, kBlockTokens, head_dim}),
                  at::randn({blocks, kv_heads, kBlockTokens, head_dim}),
                  {},
                  {}};
    // Every other round has a cache in int8.
    if (round % 2 == 1) {
      for (at::Tensor* side : {&cache.keys, &cache.values})
        *side = side->mul(40).clamp(-kKvInt8Max, kKvInt8Max).to(at::kChar);
      for (at::Tensor* scales : {&cache.key_scales, &cache.value_scales})
        *scales = at::randn({blocks, kv_heads, kBlockTokens}).abs().mul(0.02);
    }
    const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
    const at::Tensor expected =
        MakeReferenceOps()->PagedAttention(qkv, heads, kv_heads, head_dim, scale, window, host, cache);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::ScalarType stored = cache.quantized() ? at::kChar : type;
      KvLayer there{cache.keys.to(runtime_->device(), stored), cache.values.to(runtime_->device(), stored), {}, {}};
      if (cache.quantized()) {
        there.key_scales = cache.key_scales.to(runtime_->device());
        there.value_scales = cache.value_scales.to(runtime_->device());
      }
      const at::Tensor got = ops_->PagedAttention(qkv.to(runtime_->device(), type), heads, kv_heads, head_dim, scale,
                                                  window, device, there);
      const double error = at::max(at::abs(at::sub(got.to(at::kCPU, at::kFloat), expected))).item().toDouble();
      EXPECT_LE(error, type == at::kFloat  ? 2e-5
                       : type == at::kHalf ? 1e-2
                                           : 5e-2)
          << "round " << round << ", head_dim " << head_dim << ", window " << window;
    }
  }
}

// Whatever differs has the size of a last place.
void ExpectClose(const at::Tensor& got, const at::Tensor& expected, const char* what) {
  const double place = expected.scalar_type() == at::kFloat ? 1e-5 : expected.scalar_type() == at::kHalf ? 2e-3 : 2e-2;
  const at::Tensor here = got.to(at::kCPU, at::kFloat), there = expected.to(at::kFloat);
  EXPECT_TRUE(at::allclose(here, there, place, place))
      << what << " in " << expected.scalar_type() << ": " << at::max(at::abs(at::sub(here, there))).item().toDouble();
}

TEST_F(CudaOpsTest, NormsAndNonlinearitiesAreTheReferences) {
  const auto reference = MakeReferenceOps();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t width : {1, 7, 64, 100, 1024, 4096, 5000}) {
      at::manual_seed(width);
      const auto there = [&](const at::Tensor& t) { return t.to(runtime_->device()); };
      const at::Tensor x = at::randn({5, 2 * width}).to(type), weight = at::randn({2 * width}).to(type);
      at::Tensor residual = at::randn({5, 2 * width}).to(type), sum = there(residual);
      ExpectClose(ops_->RmsNorm(there(x), sum, there(weight), 1e-5), reference->RmsNorm(x, residual, weight, 1e-5),
                  "RMSNorm");
      ExpectClose(sum, residual, "the residual");
      ExpectClose(ops_->LayerNorm(there(x), {}, there(weight), there(weight), 1e-5),
                  reference->LayerNorm(x, {}, weight, weight, 1e-5), "LayerNorm");
      for (const Activation kind : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu})
        ExpectClose(ops_->Activate(there(x), kind, true), reference->Activate(x, kind, true), "a nonlinearity");
      at::Tensor columns = x.clone(), theirs = there(x);
      const at::Tensor half = weight.narrow(0, 0, width).contiguous();
      reference->NormColumns(columns, 0, 2, width, half, 1e-5);
      ops_->NormColumns(theirs, 0, 2, width, there(half), 1e-5);
      ExpectClose(theirs, columns, "the norm of columns");
    }
  }
}

TEST_F(CudaOpsTest, RotationAndCacheAreTheReferences) {
  const auto reference = MakeReferenceOps();
  constexpr int64_t kHeads = 4, kKvHeads = 2, kRows = 20, kBlocks = 4;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t head_dim : {16, 80, 128}) {
      for (const bool int8 : {false, true}) {
        at::manual_seed(head_dim);
        const auto there = [&](const at::Tensor& t) { return t.to(runtime_->device()); };
        at::Tensor qkv = at::randn({kRows, (kHeads + 2 * kKvHeads) * head_dim}).to(type), turned = there(qkv);
        const at::Tensor cos = at::randn({64, head_dim / 2}), sin = at::randn({64, head_dim / 2});
        AttentionBatch batch, device;
        batch.positions = at::arange(3, 3 + kRows, at::kLong);
        batch.slots = at::arange(30, 30 + kRows, at::kLong);
        device.positions = there(batch.positions);
        device.slots = there(batch.slots);
        const at::IntArrayRef cells = {kBlocks, kKvHeads, kBlockTokens, head_dim};
        const auto zeros = [&](at::Device where) {
          const auto options = at::TensorOptions(int8 ? at::kChar : type).device(where);
          const auto scales = [&] {
            return int8 ? at::zeros(cells.slice(0, 3), options.dtype(at::kFloat)) : at::Tensor();
          };
          return KvLayer{at::zeros(cells, options), at::zeros(cells, options), scales(), scales()};
        };
        KvLayer expected = zeros(at::kCPU), got = zeros(runtime_->device());
        reference->RotaryAndCache(qkv, cos, sin, kHeads, kKvHeads, head_dim, batch, expected);
        ops_->RotaryAndCache(turned, there(cos), there(sin), kHeads, kKvHeads, head_dim, device, got);
        const int64_t queries = kHeads * head_dim;
        EXPECT_TRUE(turned.narrow(1, 0, queries).cpu().equal(qkv.narrow(1, 0, queries))) << "queries";
        EXPECT_TRUE(got.keys.cpu().equal(expected.keys)) << "keys, head_dim " << head_dim;
        EXPECT_TRUE(got.values.cpu().equal(expected.values)) << "values, head_dim " << head_dim;
        if (!int8) continue;
        EXPECT_TRUE(got.key_scales.cpu().equal(expected.key_scales));
        EXPECT_TRUE(got.value_scales.cpu().equal(expected.value_scales));
      }
    }
  }
}

}  // namespace
}  // namespace causeway
