// The outputs of layers for the prompt of one sequence, gathered in host memory while steps compute it.
#ifndef CAUSEWAY_ENGINE_BATCH_LAYER_OUTPUTS_H_
#define CAUSEWAY_ENGINE_BATCH_LAYER_OUTPUTS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace causeway {

// The worker that computes a unit writes its rows, and no other does. They may be read once the sequence has ended with
// its whole prompt computed. Rows that are computed again after a preemption are written again.
struct LayerOutputs {
  std::vector<int> units;           // ascending: 0 the embeddings, 1..L the layers, L + 1 the final norm
  int64_t rows = 0;                 // one for each token of the prompt
  int64_t width = 0;                // the hidden size
  std::unique_ptr<float[]> values;  // [units, rows, width]

  static int64_t Bytes(size_t units, int64_t rows, int64_t width) {
    return static_cast<int64_t>(units) * rows * width * sizeof(float);
  }
  int64_t bytes() const { return Bytes(units.size(), rows, width); }

  // The rows of a unit, [rows, width]; null where the unit is not wanted.
  float* of_unit(int unit) const {
    const auto found = std::lower_bound(units.begin(), units.end(), unit);
    if (found == units.end() || *found != unit) return nullptr;
    return values.get() + (found - units.begin()) * rows * width;
  }
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BATCH_LAYER_OUTPUTS_H_
