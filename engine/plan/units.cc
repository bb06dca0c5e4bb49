#include "engine/plan/units.h"

#include <unordered_map>

#include "absl/strings/str_cat.h"

namespace causeway {

UnitTable MakeUnitTable(const ModelSpec& spec, const ModuleIndex& index) {
  UnitTable table;
  table.layers = static_cast<int>(spec.layers.size());
  std::unordered_map<std::string, int> unit_of_path;
  unit_of_path[spec.embedding_path] = 0;
  if (!spec.position_embedding_path.empty()) unit_of_path[spec.position_embedding_path] = 0;
  for (int i = 0; i < table.layers; ++i) unit_of_path[spec.layers[i].path] = i + 1;
  unit_of_path[spec.final_norm_path] = table.layers + 1;
  unit_of_path[spec.head_path] = table.head();

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

std::string UnitNames(int layers, const std::vector<int>& units) {
  std::string text;
  for (size_t i = 0; i < units.size();) {
    if (!text.empty()) text += ", ";
    const int unit = units[i];
    if (unit == 0 || unit > layers) {
      text += unit == 0 ? "embeddings" : unit == layers + 1 ? "final norm" : "head";
      ++i;
      continue;
    }
    size_t last = i;
    while (last + 1 < units.size() && units[last + 1] == units[last] + 1 && units[last + 1] <= layers) ++last;
    if (last == i) {
      absl::StrAppend(&text, "layer ", unit - 1);
    } else {
      absl::StrAppend(&text, "layers ", unit - 1, "-", units[last] - 1);
    }
    i = last + 1;
  }
  return text;
}

}  // namespace causeway
