// What a plan promises fits into its budgets when the real caching allocator hands it out, on GPUs that are not there:
// weights, KV cache and activations of whole models, over many budgets.
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gmock/gmock.h>

#include "engine/architecture/quantization.h"
#include "engine/architecture/registry.h"
#include "engine/device/cuda_library.h"
#include "engine/execution/startup.h"
#include "tests/support/cuda_standin/standin.h"

extern "C" const causeway::CudaLibrary* causeway_cuda_library();

namespace causeway {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20, kGiB = int64_t{1} << 30;
constexpr int kBudgets = 40;
constexpr int64_t kDeviceBytes = 180 * kGiB;
// Of a plan's reserve, what the driver's context takes, which no allocator sees.
constexpr int64_t kContextBytes = 536 * kMiB;

struct Shape {
  std::string name;
  Json config;
  std::string quantize = {};  // weights
  bool int8_kv = false;
  int devices = 1;

  friend void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }
};

Json Llama(int64_t layers, int64_t hidden, int64_t intermediate, int64_t vocab, int64_t heads, int64_t kv_heads,
           const std::string& type = "llama") {
  return {{"model_type", type},
          {"vocab_size", vocab},
          {"hidden_size", hidden},
          {"intermediate_size", intermediate},
          {"num_hidden_layers", layers},
          {"num_attention_heads", heads},
          {"num_key_value_heads", kv_heads},
          {"max_position_embeddings", 8192},
          {"tie_word_embeddings", false}};
}

std::vector<Shape> Shapes() {
  const Json llama2 = Llama(32, 4096, 11008, 32000, 32, 32), llama3 = Llama(32, 4096, 14336, 128256, 32, 8),
             qwen7 = Llama(28, 3584, 18944, 152064, 28, 4, "qwen2"),
             qwen32 = Llama(64, 5120, 27648, 152064, 40, 8, "qwen2");
  Json mixtral = Llama(32, 4096, 14336, 32000, 32, 8, "mixtral");
  mixtral.update({{"num_local_experts", 8}, {"num_experts_per_tok", 2}});
  Json qwen_moe = Llama(48, 2048, 6144, 151936, 32, 4, "qwen3_moe");
  qwen_moe.update({{"head_dim", 128},
                   {"moe_intermediate_size", 768},
                   {"num_experts", 128},
                   {"num_experts_per_tok", 8},
                   {"decoder_sparse_step", 1}});
  const Json gpt2 = {{"model_type", "gpt2"}, {"vocab_size", 50257}, {"n_embd", 768},
                     {"n_layer", 12},        {"n_head", 12},        {"n_positions", 1024}};
  return {{"Llama-2-7B", llama2},
          {"Llama-3.1-8B", llama3},
          {"Llama-3.1-8B, int8 KV", llama3, "", true},
          {"Llama-3.1-8B, int8", llama3, "int8"},
          {"Llama-3.1-8B, int4", llama3, "int4"},
          {"Qwen2.5-7B", qwen7},
          {"Qwen2.5-32B", qwen32},
          {"Qwen2.5-32B on 4", qwen32, "", false, 4},
          {"Llama, 100 layers, on 4", Llama(100, 8192, 28672, 128256, 64, 8), "", false, 4},
          {"Mixtral-8x7B", mixtral},
          {"Qwen3-30B-A3B", qwen_moe},
          {"Qwen3-30B-A3B, int8", qwen_moe, "int8"},
          {"gpt2", gpt2},
          {"tiny", Llama(4, 32, 64, 96, 4, 2)}};
}

class CudaBudgetsTest : public ::testing::TestWithParam<Shape> {
 protected:
  static void SetUpTestSuite() { standin::SetDevices(4, kDeviceBytes); }
};

// Takes what the plan promises as a start does, and then what a step needs.
absl::Status Take(const ModelSpec& spec, const Plan& plan) {
  SamplerState sampler(plan.options.max_num_seqs, spec.vocab_size);
  ExecutorOptions options;
  options.make_runtime = causeway_cuda_library()->make_runtime;
  absl::StatusOr<DeviceWorkers> workers = MakeWorkers(spec, plan, {}, options, sampler, [](std::shared_ptr<Step>) {});
  if (!workers.ok()) return workers.status();
  for (const auto& [index, worker] : *workers) {
    const DevicePlan& device = plan.devices[index];
    absl::Status status = worker->Call([&worker = *worker, &device] {
      worker.BuildModel();
      worker.AllocateCache();
      worker.ReserveActivations(device.activations);
      const MemoryScope scope(worker.runtime(), MemoryOwner::kActivations);
      const auto bytes = at::TensorOptions(at::kByte).device(worker.runtime().device());
      const int64_t step = device.activations - worker.runtime().memory().workspace;
      if (step > 2 * kMiB) at::empty({step}, bytes);
      std::vector<at::Tensor> small;
      for (int i = 0; i < 30; ++i) small.push_back(at::empty({kMiB - 1}, bytes));
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    const int64_t reserved = standin::StateOf(device.device.id).allocated_peak;
    if (reserved > device.budget - kContextBytes)
      return absl::ResourceExhaustedError(
          absl::StrCat(device.device.name, " reserved ", reserved, " of ", device.budget));
  }
  return absl::OkStatus();
}

TEST_P(CudaBudgetsTest, WhatIsPromisedFits) {
  const c10::InferenceMode inference;
  const Shape& shape = GetParam();
  absl::StatusOr<ModelSpec> spec = MakeModelSpec(shape.config, Json::object(), DType::kBF16);
  ASSERT_TRUE(spec.ok()) << spec.status();
  if (!shape.quantize.empty()) {
    const absl::StatusOr<WeightFormat> format = ParseQuantize(shape.quantize);
    ASSERT_TRUE(format.ok()) << format.status();
    const absl::Status quantized = QuantizeOnLoad(*format, *spec);
    ASSERT_TRUE(quantized.ok()) << quantized;
  }
  c10::cuda::CUDACachingAllocator::emptyCache();
  std::vector<Device> devices = *causeway_cuda_library()->devices();
  devices.resize(shape.devices);
  PlanOptions options;
  options.max_model_len = std::min<int64_t>(2048, spec->context_max);
  if (shape.int8_kv) options.kv_dtype = DType::kI8;

  const auto planned = [&](int64_t budget) {
    options.max_memory = {{"", budget}};
    return MakePlan(*spec, devices, options);
  };
  int64_t available = kDeviceBytes;  // contexts take the rest
  for (const Device& device : devices) available = std::min(available, device.available_bytes);
  // From the least budget that a plan takes, to within 4 MiB, up to twice that.
  int64_t too_little = 0, least = available;
  ASSERT_TRUE(planned(least).ok()) << planned(least).status();
  while (least - too_little > 4 * kMiB) {
    const int64_t middle = (too_little + least) / 2;
    (planned(middle).ok() ? least : too_little) = middle;
  }
  std::mt19937_64 random(1);
  int failed = 0;
  std::string first;
  for (int i = 0; i < kBudgets; ++i) {
    const int64_t most = std::min(available, 2 * least);
    const int64_t budget = i == 0 ? least : least + static_cast<int64_t>(random() % (most - least));
    const absl::StatusOr<Plan> plan = planned(budget);
    ASSERT_TRUE(plan.ok()) << plan.status();
    c10::cuda::CUDACachingAllocator::emptyCache();
    for (int d = 0; d < shape.devices; ++d) standin::ResetPeak(d);
    const absl::Status taken = Take(*spec, *plan);
    if (taken.ok()) continue;
    if (failed++ == 0) first = absl::StrCat("budget ", budget, ": ", taken.ToString());
  }
  EXPECT_EQ(failed, 0) << "of " << kBudgets << " budgets; the first: " << first;
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaBudgetsTest, ::testing::ValuesIn(Shapes()),
                         [](const ::testing::TestParamInfo<Shape>& info) {
                           std::string name;
                           for (const char c : info.param.name) name += std::isalnum(c) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace causeway
