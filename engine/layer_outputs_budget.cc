#include "engine/layer_outputs_budget.h"

#include <algorithm>
#include <functional>
#include <new>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/plan/device.h"

namespace causeway {

absl::StatusOr<std::shared_ptr<LayerOutputs>> LayerOutputsBudget::Take(std::vector<int> units, int64_t rows,
                                                                       int64_t width) {
  if (units.empty()) return nullptr;
  CAUSEWAY_CHECK(
      std::adjacent_find(units.begin(), units.end(), std::greater_equal<int>()) == units.end() && units.front() >= 0,
      "units of layers' outputs");
  const int64_t bytes_max = bytes_max_;
  const int64_t bytes = LayerOutputs::Bytes(units.size(), rows, width);
  const std::string what =
      absl::StrCat("the outputs of ", units.size(), " layers for ", rows, " tokens take ", FormatBytes(bytes));
  if (bytes > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ", and at most ", FormatBytes(bytes_max),
                     " are held (layer_outputs_bytes_max); ask for fewer layers or tokens at a time"));
  }
  const int64_t before = held_->fetch_add(bytes);
  // This gives the bytes back, also when something below fails.
  const std::shared_ptr<void> credit(nullptr, [held = held_, bytes](void*) { *held -= bytes; });
  if (before + bytes > bytes_max) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ", and ", FormatBytes(before), " of ",
                                                     FormatBytes(bytes_max),
                                                     " (layer_outputs_bytes_max) are held for other requests"));
  }
  auto outputs = std::make_unique<LayerOutputs>();
  outputs->values.reset(new (std::nothrow) float[bytes / sizeof(float)]);
  if (outputs->values == nullptr)
    return absl::ResourceExhaustedError(absl::StrCat(what, ", which the system does not have"));
  outputs->units = std::move(units);
  outputs->rows = rows;
  outputs->width = width;
  return std::shared_ptr<LayerOutputs>(outputs.release(), [credit](LayerOutputs* done) { delete done; });
}

}  // namespace causeway
