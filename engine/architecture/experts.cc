#include "engine/architecture/experts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/architecture/parts.h"

namespace causeway {

int64_t ReadExpertsPerToken(ConfigReader& config, int64_t count, int64_t otherwise) {
  const int64_t chosen = config.Int("num_experts_per_tok", 1, kExpertsMax, otherwise);
  if (config.ok() && chosen > count)
    config.Invalid(
        absl::StrCat("num_experts_per_tok: expected at most the number of experts (", count, "), found ", chosen));
  return chosen;
}

MoeSpec MakeMoe(const ExpertTraits& traits, int64_t hidden, Activation activation, const std::string& layer_path) {
  const std::string path = absl::StrCat(layer_path, ".", traits.block);
  MoeSpec moe;
  moe.router = {.parts = {LinearPart(path + ".gate", traits.count, /*bias=*/false)}, .in_features = hidden};
  if (traits.correction) moe.correction_bias = path + ".e_score_correction_bias";
  moe.rule = traits.rule;
  moe.experts.resize(traits.count);  // filled in place: there are tens of thousands in a model
  for (int64_t e = 0; e < traits.count; ++e) {
    MlpSpec& expert = moe.experts[e];
    const std::string prefix = absl::StrCat(path, ".experts.", e, ".");
    expert.gated = true;
    expert.activation = activation;
    expert.up.in_features = hidden;
    expert.up.parts.reserve(2);
    expert.up.parts.push_back(LinearPart(prefix + traits.gate, traits.width, /*bias=*/false));
    expert.up.parts.push_back(LinearPart(prefix + traits.up, traits.width, /*bias=*/false));
    expert.down.in_features = traits.width;
    expert.down.parts.push_back(LinearPart(prefix + traits.down, hidden, /*bias=*/false));
  }
  return moe;
}

Module MoeModule(const ExpertTraits& traits, int64_t hidden, const std::string& kind,
                 const std::string& activation_kind, DType dtype) {
  Module experts = Leaf("experts", kind + "Experts");
  experts.children.resize(traits.count + 1);
  for (int64_t e = 0; e < traits.count; ++e) {
    Module& expert = experts.children[e];
    expert.name = absl::StrCat(e);
    expert.kind = kind + "MLP";
    expert.children.reserve(3);
    expert.children.push_back(LinearModule(traits.gate, hidden, traits.width, /*bias=*/false, dtype));
    expert.children.push_back(LinearModule(traits.up, hidden, traits.width, /*bias=*/false, dtype));
    expert.children.push_back(LinearModule(traits.down, traits.width, hidden, /*bias=*/false, dtype));
  }
  experts.children.back() = Leaf("act_fn", activation_kind);  // one for all
  Module block = Leaf(traits.block, kind + "SparseMoeBlock");
  if (traits.correction) {
    block.parameters.push_back({.name = "e_score_correction_bias",
                                .dtype = dtype,
                                .shape = {traits.count},
                                .buffer = true,
                                .persistent = true});
  }
  block.children.reserve(2);
  block.children.push_back(
      Leaf("gate", kind + "TopKRouter", {{.name = "weight", .dtype = dtype, .shape = {traits.count, hidden}}}));
  block.children.push_back(std::move(experts));
  return block;
}

void AddStackedSpellings(const ExpertTraits& traits, ModelSpec& spec) {
  const std::string stacked = "model.layers.#.mlp.", path = absl::StrCat("model.layers.#.", traits.block, ".");
  const auto of_experts = [&path](const std::string& name) {
    return absl::StrCat(path, "experts.*.", name, ".weight");
  };
  spec.spellings.push_back({stacked + "experts.gate_up_proj", {of_experts(traits.gate), of_experts(traits.up)}});
  spec.spellings.push_back({stacked + "experts.down_proj", {of_experts(traits.down)}});
  if (path == stacked) return;
  spec.spellings.push_back({stacked + "gate.weight", {path + "gate.weight"}});
  spec.spellings.push_back({stacked + "e_score_correction_bias", {path + "e_score_correction_bias"}});
}

}  // namespace causeway
