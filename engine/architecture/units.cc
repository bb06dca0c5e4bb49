#include "engine/architecture/units.h"

#include <numeric>

#include "absl/strings/str_cat.h"

namespace causeway {

std::vector<int> Units::all() const { return UnitRange{kEmbeddings, head()}.all(); }

std::vector<int> UnitRange::all() const {
  std::vector<int> units(last - first + 1);
  std::iota(units.begin(), units.end(), first);
  return units;
}

Units UnitsOf(const ModelSpec& spec) { return {.layers = static_cast<int>(spec.layers.size())}; }

const std::string& UnitPath(const ModelSpec& spec, int unit) {
  const Units units = UnitsOf(spec);
  if (unit == Units::kEmbeddings) return spec.embedding_path;
  if (units.is_layer(unit)) return spec.layers[Units::LayerOf(unit)].path;
  return unit == units.norm() ? spec.final_norm_path : spec.head_path;
}

std::string UnitNames(const Units& units, const std::vector<int>& which) {
  std::string text;
  for (size_t i = 0; i < which.size();) {
    if (!text.empty()) text += ", ";
    const int unit = which[i];
    if (!units.is_layer(unit)) {
      text += unit == Units::kEmbeddings ? "embeddings" : unit == units.norm() ? "final norm" : "head";
      ++i;
      continue;
    }
    size_t last = i;
    while (last + 1 < which.size() && which[last + 1] == which[last] + 1 && units.is_layer(which[last + 1])) ++last;
    if (last == i) {
      absl::StrAppend(&text, "layer ", Units::LayerOf(unit));
    } else {
      absl::StrAppend(&text, "layers ", Units::LayerOf(unit), "-", Units::LayerOf(which[last]));
    }
    i = last + 1;
  }
  return text;
}

}  // namespace causeway
