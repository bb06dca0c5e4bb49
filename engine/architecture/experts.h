// Mixtures of experts: their spec, their modules with each expert one by one, and the stacked spelling of the same
// tensors.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_EXPERTS_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_EXPERTS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "engine/architecture/config_reader.h"
#include "engine/architecture/spec.h"

namespace causeway {

struct ExpertTraits {
  std::string block = "mlp";                                           // the module in a layer
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";  // in an expert
  int64_t count = 0;
  int64_t width = 0;  // an expert's intermediate size
  RoutingRule rule;
  bool correction = false;  // e_score_correction_bias
  // Whether a layer has experts; the others have an MLP. Null: all do.
  std::function<bool(int64_t layer)> sparse;
};

// How many of `count` experts a token goes to: num_experts_per_tok.
int64_t ReadExpertsPerToken(ConfigReader& config, int64_t count, int64_t otherwise);

MoeSpec MakeMoe(const ExpertTraits& traits, int64_t hidden, Activation activation, const std::string& layer_path);
// `kind` begins the classes' names; `activation_kind` is the class of the nonlinearity.
Module MoeModule(const ExpertTraits& traits, int64_t hidden, const std::string& kind,
                 const std::string& activation_kind, DType dtype);
// What checkpoints with stacked experts call the tensors under "model.layers.#".
void AddStackedSpellings(const ExpertTraits& traits, ModelSpec& spec);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_EXPERTS_H_
