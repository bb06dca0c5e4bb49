// A table of embeddings that is not held: its rows are read from the checkpoint when they are looked up.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_STORED_TABLE_H_
#define CAUSEWAY_ENGINE_WEIGHTS_STORED_TABLE_H_

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "engine/base/weight_format.h"
#include "engine/checkpoint/checkpoint.h"

namespace causeway {

// Thread-safe. The checkpoint must outlive it.
class StoredTable {
 public:
  // `tensor` [rows, columns]. Rows come in `activations`, as if held in `dtype` and `format`. in_memory: read once,
  // now, and kept in CPU memory in `dtype`.
  static absl::StatusOr<StoredTable> Open(const Checkpoint& checkpoint, const TensorInfo& tensor, at::ScalarType dtype,
                                          at::ScalarType activations, const WeightFormat& format, bool in_memory);

  // ids int64 [n], CPU -> [n, columns], CPU. OutOfRange: an id outside the table. DataLoss: the file has become
  // shorter.
  absl::StatusOr<at::Tensor> Rows(const at::Tensor& ids) const;

 private:
  StoredTable(const Checkpoint& checkpoint, TensorInfo tensor, at::ScalarType stored, at::ScalarType dtype,
              at::ScalarType activations, const WeightFormat& format)
      : checkpoint_(&checkpoint),
        tensor_(std::move(tensor)),
        stored_(stored),
        dtype_(dtype),
        activations_(activations),
        format_(format) {}

  const Checkpoint* checkpoint_;
  TensorInfo tensor_;
  at::ScalarType stored_, dtype_, activations_;
  WeightFormat format_;
  at::Tensor held_;  // [rows, columns]; undefined: on disk
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_STORED_TABLE_H_
