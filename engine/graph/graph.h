// A model as a graph of layers: what each layer holds and computes, and what passes from one to the next.
#ifndef CAUSEWAY_ENGINE_GRAPH_GRAPH_H_
#define CAUSEWAY_ENGINE_GRAPH_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/architecture/spec.h"

namespace causeway {

// A forward pass over `batch` prompts of `tokens` tokens, with logits for each of them.
struct GraphOptions {
  int64_t batch = 1;
  int64_t tokens = 1024;
  DType dtype = DType::kBF16;  // dtype of the hidden states; weights have the spec's
};

struct GraphNode {
  std::string name;        // "embeddings", "layer 3", "final norm", "head"
  int64_t parameters = 0;  // a tied weight counts at its source alone
  int64_t bytes = 0;       // bytes of the parameters and of buffers
  // Bytes of a weight that the embeddings have, too (a tied head). A stage that holds this node but not the embeddings
  // needs a copy.
  int64_t shared_bytes = 0;
  // Operations of linears and attention, two for each multiply-add. Those that a causal mask hides count. Those outside
  // a sliding window don't, nor those of experts that a token does not go to.
  double flops = 0;
};

// Hidden states [batch * tokens, hidden].
struct GraphEdge {
  int from = 0, to = 0;  // indices of nodes
  int64_t bytes = 0;
};

struct LayerGraph {
  std::string model;  // "gpt2, 1.56 B parameters"
  GraphOptions options;
  std::vector<GraphNode> nodes;  // in the order of execution
  std::vector<GraphEdge> edges;
  GraphNode total;
};

LayerGraph MakeLayerGraph(const ModelSpec& spec, const GraphOptions& options);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_GRAPH_GRAPH_H_
