// Host memory for layers' outputs, bounded over all requests.
#ifndef CAUSEWAY_ENGINE_LAYER_OUTPUTS_BUDGET_H_
#define CAUSEWAY_ENGINE_LAYER_OUTPUTS_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch/layer_outputs.h"

namespace causeway {

// Thread-safe. Outputs that it gave may outlive it.
class LayerOutputsBudget {
 public:
  explicit LayerOutputsBudget(int64_t bytes_max)
      : bytes_max_(bytes_max), held_(std::make_shared<std::atomic<int64_t>>(0)) {}

  // `units` are ascending; returns null for none. Values are whatever was in the memory. The bytes count until the last
  // owner releases them. InvalidArgument: above the bound by itself. ResourceExhausted: above what is left of the
  // bound.
  absl::StatusOr<std::shared_ptr<LayerOutputs>> Take(std::vector<int> units, int64_t rows, int64_t width);

  void SetBytesMax(int64_t bytes_max) { bytes_max_ = bytes_max; }
  int64_t held_bytes() const { return *held_; }

 private:
  std::atomic<int64_t> bytes_max_;
  const std::shared_ptr<std::atomic<int64_t>> held_;  // shared with the outputs that it gave
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_LAYER_OUTPUTS_BUDGET_H_
