// What a step starts on a GPU and waits for, counted on a machine that has none: kernels, copies, and waits of the
// host. docs/gpu.md holds the table, so that it changes on purpose only; CAUSEWAY_WRITE_TABLE=1 makes the test write
// it.
#include <stdlib.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "engine/architecture/quantization.h"
#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"
#include "engine/execution/executor.h"
#include "tests/support/cuda_standin/standin.h"
#include "tests/support/tiny_checkpoint.h"

extern "C" const causeway::CudaLibrary* causeway_cuda_library();

namespace causeway {
namespace {

constexpr char kPage[] = CAUSEWAY_SOURCE_DIR "/docs/gpu.md";
const std::string kBegin = "<!-- launches -->\n", kEnd = "<!-- end of launches -->\n";

struct Model {
  std::string name;
  Json config;
  std::string quantize = "none";
  bool int8_kv = false;
};

std::vector<Model> Models() {
  const Json bf16 = {{"dtype", "bfloat16"}};
  Json experts = TinyQwen3Moe(bf16);
  // Each expert of each layer is computed, whatever the numbers are.
  experts.update({{"num_experts", 4}, {"num_experts_per_tok", 4}, {"mlp_only_layers", Json::array()}});
  return {{"Llama, bf16", TinyLlama(bf16)},         {"Llama, bf16, int8 KV cache", TinyLlama(bf16), "none", true},
          {"GPT-2, bf16", TinyGpt2(bf16)},          {"Llama, int8", TinyLlama(bf16), "int8"},
          {"Llama, int4", TinyLlama(bf16), "int4"}, {"Qwen3 with 4 experts, all chosen, bf16", experts}};
}

// Steps on one device.
class Machine {
 public:
  Machine(const Model& model, int layers) : tiny_(WithLayers(model.config, layers), 1, DType::kBF16) {
    ModelSpec spec = tiny_.spec();
    const absl::StatusOr<WeightFormat> format = ParseQuantize(model.quantize);
    EXPECT_TRUE(format.ok() && QuantizeOnLoad(*format, spec).ok());
    PlanOptions options;
    options.max_num_seqs = 8;
    options.max_num_batched_tokens = 64;
    options.max_model_len = 96;
    if (model.int8_kv) options.kv_dtype = DType::kI8;
    const auto plan = MakePlan(spec, {causeway_cuda_library()->devices().value().at(0)}, options);
    EXPECT_TRUE(plan.ok()) << plan.status();
    ExecutorOptions executor_options;
    executor_options.make_runtime = causeway_cuda_library()->make_runtime;
    auto executor = MakeExecutor(spec, tiny_.checkpoint(), *plan, executor_options, nullptr);
    EXPECT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
  }

  // `rows` of each sequence, behind `context`.
  standin::Counts Step(int sequences, int64_t rows, int64_t context) {
    StepPlan plan;
    plan.step = ++steps_;
    for (int s = 0; s < sequences; ++s) {
      StepSequence sequence;
      sequence.sequence = sequence.slot = s;
      sequence.tokens.assign(rows, 3);
      sequence.context = context;
      for (int32_t block = 0; block < BlocksFor(context + rows); ++block) sequence.block_table.push_back(block);
      sequence.sample = true;
      auto start = std::make_shared<SequenceStart>();
      start->sampling.temperature = 0;
      start->tokens = sequence.tokens;
      sequence.start = std::move(start);
      plan.sequences.push_back(std::move(sequence));
      plan.tokens += rows;
    }
    standin::StartLog();
    executor_->Run(std::move(plan));
    const StepResult result = executor_->Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
    return standin::Count(standin::TakeLog());
  }

 private:
  static Json WithLayers(Json config, int layers) {
    config[config.contains("n_layer") ? "n_layer" : "num_hidden_layers"] = layers;
    return config;
  }

  const TinyCheckpoint tiny_;
  std::unique_ptr<Executor> executor_;
  uint64_t steps_ = 0;
};

// A layer's share is what a third layer adds to two; the rest of the step is the rest.
std::string Row(const Model& model) {
  Machine two(model, 2), three(model, 3);
  std::string rows;
  struct Shape {
    const char* name;
    int sequences;
    int64_t rows, context;
  };
  for (const Shape& shape : {Shape{"decode", 8, 1, 40}, Shape{"prefill", 1, 64, 0}}) {
    const standin::Counts less = two.Step(shape.sequences, shape.rows, shape.context),
                          more = three.Step(shape.sequences, shape.rows, shape.context);
    absl::StrAppend(&rows, "| ", model.name, " | ", shape.name);
    for (int standin::Counts::* count : {&standin::Counts::launches, &standin::Counts::to_device,
                                         &standin::Counts::to_host, &standin::Counts::within, &standin::Counts::waits})
      absl::StrAppend(&rows, " | ", more.*count - less.*count, " + ", 3 * (less.*count) - 2 * (more.*count));
    absl::StrAppend(&rows, " |\n");
  }
  return rows;
}

TEST(CudaLaunchesTest, AreThoseOfTheTable) {
  standin::SetDevices(1, int64_t{8} << 30);
  std::string table =
      "| model | step | kernels | copies to the device | to the host | within it | waits |\n"
      "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n";
  for (const Model& model : Models()) table += Row(model);
  std::cout << table;

  std::ifstream file(kPage);
  std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t begin = page.find(kBegin), end = page.find(kEnd);
  ASSERT_TRUE(begin != std::string::npos && end != std::string::npos) << kPage << " has no place for the table";
  const size_t first = begin + kBegin.size();
  const std::string held = page.substr(first, end - first);
  if (getenv("CAUSEWAY_WRITE_TABLE") != nullptr) {
    std::ofstream(kPage) << page.replace(first, end - first, table);
    return;
  }
  EXPECT_EQ(table, held) << "if the change is on purpose, CAUSEWAY_WRITE_TABLE=1 writes it";
}

}  // namespace
}  // namespace causeway
