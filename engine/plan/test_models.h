// Models for the planner's tests, and what holds of every plan.
#ifndef CAUSEWAY_ENGINE_PLAN_TEST_MODELS_H_
#define CAUSEWAY_ENGINE_PLAN_TEST_MODELS_H_

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/checkpoint/json.h"
#include "engine/plan/plan.h"

namespace causeway {

// Of the architecture named by "model_type". Fails the test on an error.
ModelSpec TestSpec(const Json& config, DType dtype);
ModelSpec TestMiniMaxM2();  // as published, in bf16: near 16,000 experts

struct LlamaShape {
  int64_t layers = 4, hidden = 32, intermediate = 64, vocab = 96, heads = 4, kv_heads = 2, context = 256;
  bool tied = false;
};
ModelSpec TestLlama(const LlamaShape& shape, DType dtype = DType::kBF16);

// Simulated devices of these sizes.
std::vector<Device> TestDevices(const std::vector<int64_t>& bytes);

// Bytes of the whole model, tied weights once.
int64_t TestBytes(const ModelSpec& spec);

// Small steps: 4 sequences, 32 tokens, two threads.
PlanOptions TestOptions(const std::string& device_map, DType dtype = DType::kBF16);

// The message of a plan that has to be refused with `code`.
std::string PlanRefusal(const absl::StatusOr<Plan>& plan, absl::StatusCode code);

// The largest part of a budget that is taken.
double Fullest(const Plan& plan);

// Fails the test unless what holds of every plan holds of this one: no device over its budget, each parameter once (and
// a copied head's weight once more), all units in order, sums that agree.
void CheckPlan(const ModelSpec& spec, const Plan& plan);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_TEST_MODELS_H_
