#include "engine/plan/unit_table.h"

#include <unordered_map>

namespace causeway {

UnitTable MakeUnitTable(const ModelSpec& spec, const ModuleIndex& index) {
  UnitTable table{UnitsOf(spec), {}, {}};
  std::unordered_map<std::string, int> unit_of_path;
  for (const int unit : table.all()) unit_of_path[UnitPath(spec, unit)] = unit;
  if (!spec.position_embedding_path.empty()) unit_of_path[spec.position_embedding_path] = Units::kEmbeddings;

  table.parts = index.Parts();
  for (const int part : table.parts) {
    // The part itself, or a module around it: units may be made of several parts.
    int unit = -1;
    for (int i = part; i > 0 && unit < 0; i = index.node(i).parent) {
      if (auto found = unit_of_path.find(index.node(i).path); found != unit_of_path.end()) unit = found->second;
    }
    table.unit_of_part.push_back(unit);
  }
  return table;
}

}  // namespace causeway
