// The parts of a model's module tree that each of its execution units needs.
#ifndef CAUSEWAY_ENGINE_PLAN_UNIT_TABLE_H_
#define CAUSEWAY_ENGINE_PLAN_UNIT_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/architecture/spec.h"
#include "engine/architecture/units.h"
#include "engine/plan/module_sizes.h"

namespace causeway {

struct UnitTable : Units {
  std::vector<int> parts;         // ModuleIndex::Parts()
  std::vector<int> unit_of_part;  // -1: needed by no unit where it lies (rotary buffers, dropout)
};

UnitTable MakeUnitTable(const ModelSpec& spec, const ModuleIndex& index);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_UNIT_TABLE_H_
