// Execution units of a model and the parts of its module tree that each needs.
#ifndef CAUSEWAY_ENGINE_PLAN_UNITS_H_
#define CAUSEWAY_ENGINE_PLAN_UNITS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/architecture/spec.h"
#include "engine/plan/module_sizes.h"

namespace causeway {

struct UnitTable {
  int layers = 0;
  int head() const { return layers + 2; }
  int count() const { return layers + 3; }
  bool is_layer(int unit) const { return unit >= 1 && unit <= layers; }

  std::vector<int> parts;         // ModuleIndex::Parts()
  std::vector<int> unit_of_part;  // -1: needed by no unit where it lies (rotary buffers, dropout)
};

UnitTable MakeUnitTable(const ModelSpec& spec, const ModuleIndex& index);

// "embeddings", "layer 3", "final norm", "head"; of several, ascending: "embeddings, layers 0-10, final norm".
std::string UnitNames(int layers, const std::vector<int>& units);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_UNITS_H_
