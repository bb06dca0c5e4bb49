// Execution units: what a model is run by, in the order of a step.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_UNITS_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_UNITS_H_

#include <string>
#include <vector>

#include "engine/architecture/spec.h"

namespace causeway {

// A model of L layers has L + 3 units: the embeddings are 0, the layers 1 to L, then come the final norm and the head.
struct Units {
  int layers = 0;  // L

  static constexpr int kEmbeddings = 0;
  static constexpr int OfLayer(int index) { return index + 1; }
  static constexpr int LayerOf(int unit) { return unit - 1; }  // its index. REQUIRES: is_layer(unit)

  static constexpr Units OfCount(int count) { return {.layers = count - 3}; }  // REQUIRES: count is that of a model

  bool is_layer(int unit) const { return unit >= 1 && unit <= layers; }
  int last_layer() const { return layers; }  // of a model without layers kEmbeddings
  int norm() const { return layers + 1; }
  int head() const { return layers + 2; }
  int count() const { return layers + 3; }
  std::vector<int> all() const;
};

// Neighbouring units.
struct UnitRange {
  int first = 0, last = 0;  // inclusive
  bool contains(int unit) const { return unit >= first && unit <= last; }
  std::vector<int> all() const;
};

Units UnitsOf(const ModelSpec& spec);

// The module that a unit is, by its published name.
const std::string& UnitPath(const ModelSpec& spec, int unit);

// "embeddings", "layer 3", "final norm", "head"; of several, ascending: "embeddings, layers 0-10, final norm".
std::string UnitNames(const Units& units, const std::vector<int>& which);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_UNITS_H_
