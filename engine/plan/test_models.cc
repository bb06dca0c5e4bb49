#include "engine/plan/test_models.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/architecture/registry.h"
#include "engine/base/limits.h"
#include "engine/plan/module_sizes.h"

namespace causeway {

ModelSpec TestSpec(const Json& config, DType dtype) {
  absl::StatusOr<ModelSpec> spec = MakeModelSpec(config, Json::object(), dtype);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *std::move(spec) : ModelSpec();
}

ModelSpec TestMiniMaxM2() {
  return TestSpec({{"model_type", "minimax_m2"},
                   {"vocab_size", 200064},
                   {"hidden_size", 3072},
                   {"intermediate_size", 1536},
                   {"num_hidden_layers", 62},
                   {"num_attention_heads", 48},
                   {"num_key_value_heads", 8},
                   {"head_dim", 128},
                   {"rotary_dim", 64},
                   {"num_local_experts", 256},
                   {"num_experts_per_tok", 8},
                   {"max_position_embeddings", 196608},
                   {"rope_theta", 5000000},
                   {"use_qk_norm", true},
                   {"scoring_func", "sigmoid"},
                   {"use_routing_bias", true},
                   {"tie_word_embeddings", false}},
                  DType::kBF16);
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
    devices.back().index = id;
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

double Fullest(const Plan& plan) {
  double fullest = 0;
  for (const DevicePlan& device : plan.devices) {
    if (device.budget > 0)
      fullest =
          std::max(fullest, static_cast<double>(device.budget - device.free) / static_cast<double>(device.budget));
  }
  return fullest;
}

void CheckPlan(const ModelSpec& spec, const Plan& plan) {
  const ModuleIndex index(spec.modules);
  int64_t weights = 0, kv = 0;
  std::vector<int> units;
  for (const DevicePlan& device : plan.devices) {
    EXPECT_GE(device.free, 0) << device.device.name;
    EXPECT_EQ(device.free, device.budget - device.weights - device.kv_cache - device.activations - device.reserve);
    EXPECT_TRUE(std::is_sorted(device.units.begin(), device.units.end()));
    weights += device.weights - device.staging;
    kv += device.kv_cache;
    units.insert(units.end(), device.units.begin(), device.units.end());
  }
  std::sort(units.begin(), units.end());
  EXPECT_EQ(units, UnitsOf(spec).all());
  const int64_t offloaded = plan.offloaded_to_cpu + plan.offloaded_to_disk;
  weights += offloaded;
  const int64_t copy = plan.tied_head_copied ? spec.vocab_size * spec.hidden_size * DTypeBytes(plan.options.dtype) : 0;
  EXPECT_EQ(weights, index.node(0).bytes + copy);
  EXPECT_EQ(kv, plan.kv_blocks * kBlockTokens * plan.kv_bytes_per_token);

  // Every parameter by exactly one entry of `modules`, where the map says.
  std::map<std::string, int> covered;
  int64_t module_bytes = 0;
  for (const ModulePlacement& module : plan.modules) {
    EXPECT_FALSE(module.reason.empty()) << module.name;
    EXPECT_EQ(*LookUp(plan.device_map, module.name), module.device) << module.name;
    module_bytes += module.bytes;
    for (const ModuleNode& node : index.nodes()) {
      if (node.tensor != nullptr && IsPathPrefix(module.name, node.path)) ++covered[node.path];
    }
  }
  EXPECT_EQ(module_bytes, weights);
  for (const ModuleNode& node : index.nodes()) {
    if (node.tensor == nullptr) continue;
    if (offloaded == 0) {
      EXPECT_EQ(covered[node.path], 1) << node.path;
    } else {
      EXPECT_GE(covered[node.path], 1) << node.path << ", by its part, and by what of that is offloaded";
    }
  }

  // Segments in order, each unit once, on the device that holds it.
  int next = 0;
  for (size_t i = 0; i < plan.segments.size(); ++i) {
    const Segment& segment = plan.segments[i];
    EXPECT_EQ(segment.units.first, next);
    EXPECT_GE(segment.units.last, segment.units.first);
    EXPECT_NE(segment.device(), i > 0 ? plan.segments[i - 1].device() : -1);
    for (int unit = segment.units.first; unit <= segment.units.last; ++unit) {
      EXPECT_THAT(plan.devices[segment.device()].units, testing::Contains(unit));
    }
    next = segment.units.last + 1;
  }
  EXPECT_EQ(next, UnitsOf(spec).count());
}

}  // namespace causeway
