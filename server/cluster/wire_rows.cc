#include "server/cluster/wire_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "engine/base/status.h"
#include "server/cluster/wire_fields.h"

namespace causeway {

static_assert(std::endian::native == std::endian::little, "rows cross as they lie in memory");

v1::GatheredRows RowsOf(const StepSequence& sequence, const std::vector<int>& computed) {
  const LayerOutputs& outputs = *sequence.local.layer_outputs;
  v1::GatheredRows wire;
  wire.set_sequence(sequence.sequence);
  wire.set_width(outputs.width);
  const int64_t rows = std::min(static_cast<int64_t>(sequence.tokens.size()), outputs.rows - sequence.context);
  if (rows <= 0) return wire;
  wire.set_first_row(sequence.context);
  wire.set_rows(rows);
  for (const int unit : outputs.units) {
    if (std::find(computed.begin(), computed.end(), unit) != computed.end()) wire.add_units(unit);
  }
  const size_t bytes = rows * outputs.width * sizeof(float);
  std::string& values = *wire.mutable_values();
  values.reserve(wire.units_size() * bytes);
  for (const int unit : wire.units()) {
    const float* const first = outputs.of_unit(unit) + sequence.context * outputs.width;
    values.append(reinterpret_cast<const char*>(first), bytes);
  }
  return wire;
}

absl::Status CopyRows(const v1::GatheredRows& wire, LayerOutputs& outputs) {
  CAUSEWAY_RETURN_IF_ERROR(CheckEqual("layer_outputs.width", wire.width(), outputs.width));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("layer_outputs.first_row", wire.first_row(), 0, outputs.rows));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("layer_outputs.rows", wire.rows(), 0, outputs.rows - wire.first_row()));
  for (const int unit : wire.units()) {
    if (outputs.of_unit(unit) == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("layer_outputs.units: nobody asked for unit ", unit));
  }
  // Rows and width are those of memory that is there. So the product is small, but for the units of a hostile message.
  const size_t bytes = wire.rows() * outputs.width * sizeof(float);
  CAUSEWAY_RETURN_IF_ERROR(
      CheckIn("layer_outputs.units: their number", static_cast<size_t>(wire.units_size()), 0u, outputs.units.size()));
  CAUSEWAY_RETURN_IF_ERROR(CheckEqual("layer_outputs.values: their bytes", static_cast<int64_t>(wire.values().size()),
                                      static_cast<int64_t>(wire.units_size() * bytes)));
  const char* from = wire.values().data();
  for (const int unit : wire.units()) {
    if (bytes > 0) std::memcpy(outputs.of_unit(unit) + wire.first_row() * outputs.width, from, bytes);
    from += bytes;
  }
  return absl::OkStatus();
}

}  // namespace causeway
