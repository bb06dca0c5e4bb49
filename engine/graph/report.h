// Writes a layer graph and its stages, for people and for programs.
#ifndef CAUSEWAY_ENGINE_GRAPH_REPORT_H_
#define CAUSEWAY_ENGINE_GRAPH_REPORT_H_

#include <string>
#include <vector>

#include "engine/graph/stages.h"

namespace causeway {

struct GraphReport {
  LayerGraph graph;
  std::vector<StageCut> cuts;  // in the order shown
  StageAdvice advice;
};

std::string GraphTable(const GraphReport& report);
std::string GraphJson(const GraphReport& report);
// Output for Graphviz. The stages of the first cut, if there is one, become clusters.
std::string GraphDot(const GraphReport& report);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_GRAPH_REPORT_H_
