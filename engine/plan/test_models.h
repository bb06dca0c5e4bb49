// Models for the planner's tests.
#ifndef CAUSEWAY_ENGINE_PLAN_TEST_MODELS_H_
#define CAUSEWAY_ENGINE_PLAN_TEST_MODELS_H_

#include <string>
#include <vector>

#include "engine/architecture/spec.h"
#include "engine/checkpoint/json.h"
#include "engine/plan/device.h"

namespace causeway {

// Of the architecture named by "model_type". Fails the test on an error.
ModelSpec TestSpec(const Json& config, DType dtype);

struct LlamaShape {
  int64_t layers = 4, hidden = 32, intermediate = 64, vocab = 96, heads = 4, kv_heads = 2, context = 256;
  bool tied = false;
};
ModelSpec TestLlama(const LlamaShape& shape, DType dtype = DType::kBF16);

// Simulated devices of these sizes.
std::vector<Device> TestDevices(const std::vector<int64_t>& bytes);

// Bytes of the whole model, tied weights once.
int64_t TestBytes(const ModelSpec& spec);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_TEST_MODELS_H_
