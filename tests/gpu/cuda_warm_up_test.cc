// A start launches each kernel that serving launches, and serving takes no more of a GPU's memory than the start has:
// CUDA loads a kernel when it is first launched, which takes time and memory. On a GPU that is not there; what serving
// may ask for is asked for step by step.
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "engine/architecture/quantization.h"
#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"
#include "engine/execution/executor.h"
#include "tests/support/cuda_standin/standin.h"
#include "tests/support/tiny_checkpoint.h"

extern "C" const causeway::CudaLibrary* causeway_cuda_library();

namespace causeway {
namespace {

constexpr int64_t kLength = 1024;  // long enough for attention to cut it into parts

struct Model {
  std::string name;
  Json config;
  DType dtype = DType::kBF16;
  std::string quantize = "none";
  bool int8_kv = false, reference = false;
  // With `quantize`: the first layer stays in `dtype`.
  bool first_layer_plain = false;
};
void PrintTo(const Model& model, std::ostream* out) { *out << model.name; }

class AnyToken final : public TokenConstraint {
 public:
  bool Soon(int64_t) const override { return true; }
  TokenMask Await(int64_t) override { return {.allowed = words_}; }
  void Chosen(int64_t, int32_t) override {}

 private:
  const std::vector<uint32_t> words_ = std::vector<uint32_t>(3, ~uint32_t{0});
};

struct Asked {
  SamplingParams sampling = {.temperature = 0};
  int64_t min_tokens = 0;
  bool grammar = false, prompt_logprobs = false, layer_outputs = false, sample = true;
};

class Machine {
 public:
  explicit Machine(const Model& model) : tiny_(model.config, 1, model.dtype) {
    ModelSpec spec = tiny_.spec();
    const absl::StatusOr<WeightFormat> format = ParseQuantize(model.quantize);
    EXPECT_TRUE(format.ok() && QuantizeOnLoad(*format, spec).ok());
    if (model.first_layer_plain) {
      spec.layers[0] = tiny_.spec().layers[0];
      spec.modules = tiny_.spec().modules;  // whose bytes only the plan reads
    }
    PlanOptions options;
    options.dtype = model.dtype;
    options.max_num_seqs = 8;
    options.max_num_batched_tokens = 600;
    options.max_model_len = kLength;
    options.reference_ops = model.reference;
    if (model.int8_kv) options.kv_dtype = DType::kI8;
    const auto plan = MakePlan(spec, {causeway_cuda_library()->devices().value().at(0)}, options);
    EXPECT_TRUE(plan.ok()) << plan.status();
    ExecutorOptions executor_options;
    executor_options.reference_ops = model.reference;
    executor_options.make_runtime = causeway_cuda_library()->make_runtime;
    auto executor = MakeExecutor(spec, tiny_.checkpoint(), *plan, executor_options, nullptr);
    EXPECT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
  }

  // `rows` of each sequence, behind `context`.
  void Step(int sequences, int64_t rows, int64_t context, const Asked& asked = {}) {
    StepPlan plan;
    plan.step = ++steps_;
    for (int s = 0; s < sequences; ++s) {
      StepSequence sequence;
      sequence.sequence = sequence.slot = s;
      sequence.tokens.assign(rows, 3);
      sequence.context = context;
      for (int32_t block = 0; block < BlocksFor(context + rows); ++block) sequence.block_table.push_back(block);
      sequence.sample = asked.sample;
      if (asked.prompt_logprobs) sequence.targets.assign(rows - 1, 3);
      if (asked.grammar) sequence.local.constraint = std::make_shared<AnyToken>();
      if (asked.layer_outputs) {
        auto outputs = std::make_shared<LayerOutputs>();
        outputs->rows = context + rows;
        outputs->width = tiny_.spec().hidden_size;
        for (int unit = 0; unit <= UnitsOf(tiny_.spec()).norm(); ++unit) outputs->units.push_back(unit);
        outputs->values = std::make_unique<float[]>(outputs->units.size() * outputs->rows * outputs->width);
        sequence.local.layer_outputs = std::move(outputs);
      }
      auto start = std::make_shared<SequenceStart>();
      start->sampling = asked.sampling;
      start->tokens = sequence.tokens;
      start->min_tokens = asked.min_tokens;
      start->stop_token_ids = {1};
      sequence.start = std::move(start);
      plan.sequences.push_back(std::move(sequence));
      plan.tokens += rows;
    }
    executor_->Run(std::move(plan));
    const StepResult result = executor_->Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
  }

 private:
  const TinyCheckpoint tiny_;
  std::unique_ptr<Executor> executor_;
  uint64_t steps_ = 0;
};

// What serving may be asked for.
void Serve(Machine& machine) {
  machine.Step(1, 500, 0, {.sample = false});
  machine.Step(1, 17, 500);
  for (const int sequences : {1, 3, 8}) {
    for (const int64_t context : {0, 40, 511, 1000}) machine.Step(sequences, 1, context);
  }
  machine.Step(7, 3, 90);
  for (const SamplingParams& sampling :
       {SamplingParams{}, SamplingParams{.top_k = 5}, SamplingParams{.top_p = 0.5}, SamplingParams{.min_p = 0.1},
        SamplingParams{.typical_p = 0.5}, SamplingParams{.repetition_penalty = 1.5},
        SamplingParams{.presence_penalty = 1}, SamplingParams{.temperature = 0, .frequency_penalty = 1},
        SamplingParams{.logit_bias = {{3, 2.0f}}}, SamplingParams{.logprobs = true},
        SamplingParams{.logprobs = true, .top_logprobs = 20}}) {
    machine.Step(3, 1, 40, {.sampling = sampling});
  }
  machine.Step(2, 1, 40, {.min_tokens = 3});
  machine.Step(2, 1, 40, {.grammar = true});
  machine.Step(2, 30, 0, {.prompt_logprobs = true});
  machine.Step(2, 30, 0, {.layer_outputs = true});
}

// Kernels that are launched, by name and variant, and calls that take memory.
struct Launched {
  std::set<std::string> kernels;
  int allocations = 0;
};
Launched Take() {
  Launched launched;
  for (const standin::Call& call : standin::TakeLog()) {
    if (call.launches > 0) launched.kernels.insert(call.name + call.variant);
    launched.allocations += call.name == "cudaMalloc";
  }
  return launched;
}

class CudaWarmUpTest : public ::testing::TestWithParam<Model> {};

TEST_P(CudaWarmUpTest, LaunchesAllThatServingLaunches) {
  standin::SetDevices(1, int64_t{8} << 30);
  standin::StartLog();
  Machine machine(GetParam());
  const Launched start = Take();
  standin::StartLog();
  Serve(machine);
  const Launched serving = Take();
  EXPECT_GT(serving.kernels.size(), 15u);
  EXPECT_EQ(serving.allocations, 0);
  std::vector<std::string> first;
  for (const std::string& kernel : serving.kernels) {
    if (!start.kernels.contains(kernel)) first.push_back(kernel);
  }
  EXPECT_THAT(first, ::testing::IsEmpty()) << "launched first by a request";
}

Json Wide(Json config, const std::string& dtype) {
  config.update(
      {{config.contains("n_positions") ? "n_positions" : "max_position_embeddings", kLength}, {"dtype", dtype}});
  return config;
}

INSTANTIATE_TEST_SUITE_P(
    Models, CudaWarmUpTest,
    ::testing::Values(
        Model{"llama", Wide(TinyLlama(), "bfloat16")}, Model{"llama_fp16", Wide(TinyLlama(), "float16"), DType::kF16},
        Model{"llama_fp32_reference", Wide(TinyLlama(), "float32"), DType::kF32, "none", false, /*reference=*/true},
        Model{"llama_int8_cache", Wide(TinyLlama(), "bfloat16"), DType::kBF16, "none", /*int8_kv=*/true},
        Model{"llama_int8", Wide(TinyLlama(), "bfloat16"), DType::kBF16, "int8"},
        Model{"llama_int4_but_the_first_layer", Wide(TinyLlama(), "bfloat16"), DType::kBF16, "int4", false, false,
              /*first_layer_plain=*/true},
        Model{"gpt2", Wide(TinyGpt2(), "bfloat16")}, Model{"qwen3_moe", Wide(TinyQwen3Moe(), "bfloat16")}),
    [](const ::testing::TestParamInfo<Model>& info) { return info.param.name; });

}  // namespace
}  // namespace causeway
