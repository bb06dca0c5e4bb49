// What decides how a model's weights are packed, so that a later run knows whether packed ones are its own.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_PACKED_CONTENTS_H_
#define CAUSEWAY_ENGINE_WEIGHTS_PACKED_CONTENTS_H_

#include <string>

#include "engine/architecture/spec.h"
#include "engine/base/dtype.h"
#include "engine/checkpoint/checkpoint.h"

namespace causeway {

struct PackedContents {
  std::string text;      // all but the weights' names and sizes
  bool reusable = true;  // false: something is known of them only when they are loaded
};
PackedContents DescribePacked(const ModelSpec& spec, const Checkpoint& checkpoint, DType dtype, bool reference_ops);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_PACKED_CONTENTS_H_
