// Reads matrices as checkpoints store them: rectangles of plain ones, and rows of linears stored quantized.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_STORED_ROWS_H_
#define CAUSEWAY_ENGINE_WEIGHTS_STORED_ROWS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/ops/ops.h"

namespace causeway {

using Tensors = std::map<std::string, TensorInfo>;  // MatchTensors' result

struct Rectangle {
  int64_t row = 0, rows = 0, column = 0, columns = 0;
};
// Reads a rectangle of a matrix into `to`, row by row without gaps. Errors are Checkpoint::Read's.
absl::Status ReadRectangle(const Checkpoint& checkpoint, const TensorInfo& matrix, const Rectangle& rectangle,
                           char* to);

// Outputs [rectangle.row, + rows) and inputs [rectangle.column, + columns) of a part of a linear whose encoding is not
// kFloat. `order` is ReadInputOrder's. Holds about three bytes a weight while it works. InvalidArgument: contents that
// the config contradicts, that the format cannot hold, or that are not finite. REQUIRES: inputs in whole groups; all of
// them where there is an order.
absl::StatusOr<QuantizedRows> ReadQuantizedRows(const Checkpoint& checkpoint, const Tensors& tensors,
                                                const LinearSpec& linear, const LinearSpec::Part& part,
                                                const Rectangle& rectangle, const at::Tensor& order);

// Under act-order the inputs sorted by their group, int32 [in], for Ops::SetInputOrder; undefined where they lie in
// order, and for other linears. InvalidArgument: a g_idx that is no grouping. Unimplemented: parts of one linear that
// are ordered differently.
absl::StatusOr<at::Tensor> ReadInputOrder(const Checkpoint& checkpoint, const Tensors& tensors,
                                          const LinearSpec& linear);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_STORED_ROWS_H_
