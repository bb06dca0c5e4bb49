#include "engine/architecture/held_bytes.h"

#include <string>

namespace causeway {

void CountHeldBytes(const LinearBytes& bytes, ModelSpec& spec) {
  ModuleFinder modules(spec.modules);
  const auto count = [&](const LinearSpec& linear) {
    int64_t counted = 0;
    for (const LinearSpec::Part& part : linear.parts) {
      for (const Parameter& parameter : modules.At(ModulePath(part.weight)).parameters) {
        if (parameter.tied_to.empty()) counted += parameter.bytes();
      }
    }
    Parameter& first = modules.At(ModulePath(linear.parts.front().weight)).parameters.front();
    first.held_bytes = first.bytes() + bytes(linear) - counted;
  };
  const auto count_table = [&](const std::string& weight, const WeightFormat& format) {
    if (weight.empty()) return;
    const Parameter& table = modules.At(ModulePath(weight)).parameters.front();
    count({.parts = {{.weight = weight, .bias = "", .out_features = table.shape[0]}},
           .in_features = table.shape[1],
           .format = format});
  };
  for (const LayerSpec& layer : spec.layers) {
    count(layer.attention.qkv);
    count(layer.attention.output);
    if (!layer.moe.has_value()) {
      count(layer.mlp.up);
      count(layer.mlp.down);
      continue;
    }
    count(layer.moe->router);
    if (!layer.moe->correction_bias.empty()) {  // held in fp32, as routers compute
      Parameter& correction = modules.At(ModulePath(layer.moe->correction_bias)).parameters.front();
      correction.held_bytes = correction.elements() * DTypeBytes(DType::kF32);
    }
    for (const MlpSpec& expert : layer.moe->experts) {
      count(expert.up);
      count(expert.down);
    }
  }
  count_table(spec.embedding_weight, spec.tied_head ? spec.head.format : WeightFormat{});
  count_table(spec.position_weight, {});
  if (!spec.tied_head) count(spec.head);
}

}  // namespace causeway
