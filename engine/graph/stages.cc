#include "engine/graph/stages.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/plan/auto_policy.h"
#include "engine/plan/device.h"

namespace causeway {
namespace {

constexpr double kEven = 0.9;
// Factors that turn loads into whole numbers. Bytes and parameters leave room below one for what a node adds; FLOPs are
// shares of all.
constexpr double kUnit = 1024, kFlopsUnit = 1e15;

void Append(const LayerGraph& graph, int i, Stage& stage) {
  const GraphNode& node = graph.nodes[i];
  stage.last = i;
  stage.parameters += node.parameters;
  stage.bytes += node.bytes + (stage.first > 0 ? node.shared_bytes : 0);
  stage.flops += node.flops;
}

Stage MakeStage(const LayerGraph& graph, int first, int last) {
  Stage stage{.first = first};
  for (int i = first; i <= last; ++i) Append(graph, i, stage);
  return stage;
}

double Load(const Stage& stage, Objective objective) {
  switch (objective) {
    case Objective::kParameters: return static_cast<double>(stage.parameters);
    case Objective::kFlops: return stage.flops;
    case Objective::kUniform:
    case Objective::kBytes: break;
  }
  return static_cast<double>(stage.bytes);
}

// The first node of each stage.
std::vector<int> UniformStarts(const LayerGraph& graph, int stages) {
  const int layers = static_cast<int>(graph.nodes.size()) - 3;
  std::vector<int> starts = {0};
  for (int s = 1; s < stages; ++s) starts.push_back(1 + layers * s / stages);
  return starts;
}

std::vector<int> BestStarts(const LayerGraph& graph, int stages, Objective objective) {
  const int nodes = static_cast<int>(graph.nodes.size());
  const double unit = objective == Objective::kFlops ? kFlopsUnit / graph.total.flops : kUnit;
  // `loads` sums up the nodes before each one. `shared` sums up what a node adds to a stage that does not begin with
  // the first node. Each node counts one more, so that no stage is better off empty.
  std::vector<int64_t> loads = {0}, shared = {0};
  for (int i = 0; i < nodes; ++i) {
    Stage alone{.first = 0};
    Append(graph, i, alone);
    const auto load = static_cast<int64_t>(Load(alone, objective) * unit);
    loads.push_back(loads.back() + load + 1);
    shared.push_back(shared.back() + static_cast<int64_t>(Load(MakeStage(graph, i, i), objective) * unit) - load);
  }
  StageCosts costs;
  costs.items = nodes;
  costs.of = [&](int first, int last) {
    return StageCost{.fixed_bytes =
                         loads[last + 1] - loads[first] + (first > 0 ? shared[last + 1] - shared[first] : 0)};
  };
  const std::vector<StageDevice> equal(stages, {.budget = costs.of(0, nodes - 1).fixed_bytes});
  const Partition best = BestPartition(costs, equal, 0);
  std::vector<int> starts;
  for (int i = 0; i < nodes; ++i) {
    if (i == 0 || best.device_of_item[i] != best.device_of_item[i - 1]) starts.push_back(i);
  }
  return starts;
}

}  // namespace

absl::string_view ObjectiveName(Objective objective) {
  switch (objective) {
    case Objective::kUniform: return "uniform";
    case Objective::kParameters: return "parameters";
    case Objective::kBytes: return "bytes";
    case Objective::kFlops: return "flops";
  }
  return "";
}

absl::StatusOr<StageCut> CutIntoStages(const LayerGraph& graph, int stages, Objective objective) {
  const int nodes = static_cast<int>(graph.nodes.size()), most = objective == Objective::kUniform ? nodes - 3 : nodes;
  if (stages < 1 || stages > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected 1 to ", most, " stages with objective ", ObjectiveName(objective), ", got ", stages));
  }
  const std::vector<int> starts =
      objective == Objective::kUniform ? UniformStarts(graph, stages) : BestStarts(graph, stages, objective);
  StageCut cut;
  cut.objective = objective;
  for (size_t s = 0; s < starts.size(); ++s) {
    cut.stages.push_back(MakeStage(graph, starts[s], s + 1 < starts.size() ? starts[s + 1] - 1 : nodes - 1));
  }
  double load = 0, bytes = 0, squares = 0;
  for (size_t s = 0; s < cut.stages.size(); ++s) {
    const Stage& stage = cut.stages[s];
    load += Load(stage, objective);
    bytes += static_cast<double>(stage.bytes);
    if (Load(stage, objective) > Load(cut.stages[cut.bottleneck], objective)) cut.bottleneck = static_cast<int>(s);
    cut.fullest_bytes = std::max(cut.fullest_bytes, stage.bytes);
    cut.fullest_flops = std::max(cut.fullest_flops, stage.flops);
    if (s > 0) cut.communication_bytes += graph.edges[stage.first - 1].bytes;
  }
  const double count = static_cast<double>(cut.stages.size()), mean = bytes / count;
  for (const Stage& stage : cut.stages)
    squares += (static_cast<double>(stage.bytes) - mean) * (static_cast<double>(stage.bytes) - mean);
  cut.variation = mean > 0 ? std::sqrt(squares / count) / mean : 0;
  const double fullest = Load(cut.stages[cut.bottleneck], objective);
  cut.evenness = fullest > 0 ? load / count / fullest : 1;
  return cut;
}

StageAdvice AdviseStages(const LayerGraph& graph, int stages_max, int64_t memory_bytes) {
  StageAdvice advice;
  int64_t largest = 0;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const int64_t bytes = MakeStage(graph, static_cast<int>(i), static_cast<int>(i)).bytes;
    if (bytes > largest) largest = bytes, advice.node = static_cast<int>(i);
  }
  double evenness = 0;
  int64_t fullest = 0;
  const int most = std::min(stages_max, static_cast<int>(graph.nodes.size()));
  for (int stages = 1; stages <= most; ++stages) {
    const StageCut cut = *CutIntoStages(graph, stages, Objective::kBytes);
    fullest = cut.fullest_bytes;
    if (advice.node_binds == 0 && stages > 1 && cut.fullest_bytes == largest) advice.node_binds = stages;
    const bool good =
        memory_bytes > 0 ? cut.fullest_bytes <= memory_bytes && advice.stages == 0 : cut.evenness >= kEven;
    if (good) advice.stages = stages, evenness = cut.evenness;
  }
  if (memory_bytes > 0 && advice.stages == 0) {
    advice.reason = absl::StrCat("The fullest of ", most, " stages takes ", FormatBytes(fullest),
                                 " for weights, more than ", FormatBytes(memory_bytes), ".");
  } else if (memory_bytes > 0) {
    advice.reason = absl::StrCat(advice.stages, advice.stages == 1 ? " stage is" : " stages are",
                                 " the fewest whose weights fit in ", FormatBytes(memory_bytes), " each.");
  } else {
    advice.reason =
        absl::StrFormat("%d stages are the most of %d whose weights are even: the mean is %.0f%% of the fullest.",
                        advice.stages, most, 100 * evenness);
  }
  return advice;
}

}  // namespace causeway
