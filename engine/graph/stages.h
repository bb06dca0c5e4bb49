// Cuts a layer graph into consecutive stages, and says what that means for pipelines.
#ifndef CAUSEWAY_ENGINE_GRAPH_STAGES_H_
#define CAUSEWAY_ENGINE_GRAPH_STAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/graph/graph.h"

namespace causeway {

// What a cut minimizes on the fullest stage. kUniform cuts the layers alone, into equal numbers: embeddings go with the
// first, the final norm and the head with the last.
enum class Objective { kUniform, kParameters, kBytes, kFlops };

absl::string_view ObjectiveName(Objective objective);

struct Stage {
  int first = 0, last = 0;  // nodes, inclusive
  int64_t parameters = 0;
  int64_t bytes = 0;  // includes the copy of a shared weight where it needs one
  double flops = 0;
};

struct StageCut {
  Objective objective = Objective::kBytes;
  std::vector<Stage> stages;
  int bottleneck = 0;         // the stage with most of what the objective counts; kUniform counts bytes
  int64_t fullest_bytes = 0;  // the most of any stage
  double fullest_flops = 0;
  double variation = 0;             // of the stages' bytes: population standard deviation over mean
  double evenness = 0;              // mean over fullest, of what the objective counts; 1 when all are equal
  int64_t communication_bytes = 0;  // over the edges that are cut, in one pass
};

// Finds the exact optimum: the least possible fullest stage, and among those cuts the most even one. InvalidArgument:
// fewer than one stage, or more than there are nodes (kUniform: layers).
absl::StatusOr<StageCut> CutIntoStages(const LayerGraph& graph, int stages, Objective objective);

// A choice of stages, and its grounds.
struct StageAdvice {
  int stages = 0;      // the recommended number; 0: none of those tried fits
  std::string reason;  // a sentence
  // A node that no cut divides. From `node_binds` stages on, the fullest stage is this node, and only tensor
  // parallelism makes it smaller. node_binds is 0 where that is so at no number of stages below that of the nodes.
  int node = 0;
  int node_binds = 0;
};

// With `memory_bytes` (above 0) it recommends the fewest stages, at most `stages_max`, whose fullest fits. Otherwise it
// recommends the most stages that are even to 90%.
StageAdvice AdviseStages(const LayerGraph& graph, int stages_max, int64_t memory_bytes);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_GRAPH_STAGES_H_
