#include "engine/weights/stored_table.h"

#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/ops/quantize.h"
#include "engine/weights/scalar_type.h"
#include "engine/weights/stored_rows.h"

namespace causeway {

absl::StatusOr<StoredTable> StoredTable::Open(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                              at::ScalarType dtype, at::ScalarType activations,
                                              const WeightFormat& format, bool in_memory) {
  CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType stored, ScalarTypeOf(tensor.dtype));
  StoredTable table(checkpoint, tensor, stored, dtype, activations, format);
  if (in_memory) {
    const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
    table.held_ = at::empty({rows, columns}, at::TensorOptions(stored));
    CAUSEWAY_RETURN_IF_ERROR(
        ReadRectangle(checkpoint, tensor, {0, rows, 0, columns}, static_cast<char*>(table.held_.mutable_data_ptr())));
    table.held_ = table.held_.to(dtype);
  }
  return table;
}

absl::StatusOr<at::Tensor> StoredTable::Rows(const at::Tensor& ids) const {
  const int64_t rows = tensor_.shape[0], columns = tensor_.shape[1], n = ids.numel();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < n; ++i) {
    if (id[i] < 0 || id[i] >= rows)
      return absl::OutOfRangeError(absl::StrCat("row ", id[i], " of a table of ", rows, " rows"));
  }
  at::Tensor read;
  if (held_.defined()) {
    read = held_.index_select(0, ids);
  } else {
    read = at::empty({n, columns}, at::TensorOptions(stored_));
    char* to = static_cast<char*>(read.mutable_data_ptr());
    const int64_t row_bytes = columns * read.element_size();
    for (int64_t i = 0; i < n; ++i)
      CAUSEWAY_RETURN_IF_ERROR(ReadRectangle(*checkpoint_, tensor_, {id[i], 1, 0, columns}, to + i * row_bytes));
  }
  if (format_.kind == WeightKind::kFloat) return read.to(dtype_).to(activations_);
  return Dequantize(Quantize(read, format_), format_).to(activations_);
}

}  // namespace causeway
