#include "engine/plan/test_models.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/architecture/registry.h"
#include "engine/plan/module_sizes.h"

namespace causeway {

ModelSpec TestSpec(const Json& config, DType dtype) {
  absl::StatusOr<ModelSpec> spec = MakeModelSpec(config, Json::object(), dtype);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *std::move(spec) : ModelSpec();
}

ModelSpec TestLlama(const LlamaShape& shape, DType dtype) {
  return TestSpec({{"model_type", "llama"},
                   {"vocab_size", shape.vocab},
                   {"hidden_size", shape.hidden},
                   {"intermediate_size", shape.intermediate},
                   {"num_hidden_layers", shape.layers},
                   {"num_attention_heads", shape.heads},
                   {"num_key_value_heads", shape.kv_heads},
                   {"max_position_embeddings", shape.context},
                   {"tie_word_embeddings", shape.tied}},
                  dtype);
}

std::vector<Device> TestDevices(const std::vector<int64_t>& bytes) {
  std::vector<Device> devices;
  for (const int64_t size : bytes) {
    const int id = static_cast<int>(devices.size());
    devices.push_back({DeviceKind::kSimulated, id, absl::StrCat("simulated:", id), "test", size, size});
  }
  return devices;
}

int64_t TestBytes(const ModelSpec& spec) { return ModuleIndex(spec.modules).node(0).bytes; }

PlanOptions TestOptions(const std::string& device_map, DType dtype) {
  PlanOptions options;
  options.device_map = device_map;
  options.dtype = dtype;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 32;
  options.cpu_threads = 2;
  return options;
}

std::string PlanRefusal(const absl::StatusOr<Plan>& plan, absl::StatusCode code) {
  EXPECT_EQ(plan.status().code(), code) << plan.status();
  return std::string(plan.status().message());
}

}  // namespace causeway
