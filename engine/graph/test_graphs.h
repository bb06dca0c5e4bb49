// Graphs for this folder's tests.
#ifndef CAUSEWAY_ENGINE_GRAPH_TEST_GRAPHS_H_
#define CAUSEWAY_ENGINE_GRAPH_TEST_GRAPHS_H_

#include <algorithm>

#include "engine/graph/graph.h"
#include "engine/plan/test_models.h"

namespace causeway {

inline void WithoutBiases(Module& module) {
  const auto bias = [&module](const Parameter& parameter) { return parameter.name == "bias" || module.name == "wpe"; };
  module.parameters.erase(std::remove_if(module.parameters.begin(), module.parameters.end(), bias),
                          module.parameters.end());
  for (Module& child : module.children) WithoutBiases(child);
}

// The largest GPT-2, as studies of pipelines count it: fp32, an untied head, no biases and positions, 1,024 tokens.
inline LayerGraph Gpt15B() {
  ModelSpec spec = TestSpec({{"model_type", "gpt2"},
                             {"n_layer", 48},
                             {"n_embd", 1600},
                             {"n_head", 25},
                             {"vocab_size", 50257},
                             {"n_positions", 1024},
                             {"tie_word_embeddings", false}},
                            DType::kF32);
  WithoutBiases(spec.modules);
  return MakeLayerGraph(spec, {.tokens = 1024, .dtype = DType::kF32});
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_GRAPH_TEST_GRAPHS_H_
