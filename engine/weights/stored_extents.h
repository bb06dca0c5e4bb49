// Weights that a checkpoint stores just as they are computed from.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_STORED_EXTENTS_H_
#define CAUSEWAY_ENGINE_WEIGHTS_STORED_EXTENTS_H_

#include <cstdint>
#include <vector>

#include "engine/weights/stored_rows.h"
#include "engine/weights/targets.h"

namespace causeway {

struct FileExtent {
  int file = 0;  // index into Checkpoint::files()
  int64_t offset = 0, bytes = 0;
};

// For each of the weight's Tensors() where its bytes lie, in order. Empty: the checkpoint has none of it so: it stores
// another dtype, inputs before outputs, or quantized rows, or the weight is laid out in another way, or is a share of
// what is stored.
std::vector<std::vector<FileExtent>> StoredAsHeld(const Tensors& tensors, const LinearTarget& target);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_STORED_EXTENTS_H_
