// Dtypes of checkpoints as torch has them.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_SCALAR_TYPE_H_
#define CAUSEWAY_ENGINE_WEIGHTS_SCALAR_TYPE_H_

#include <c10/core/ScalarType.h>

#include "absl/status/statusor.h"
#include "engine/base/dtype.h"

namespace causeway {

// Unimplemented names a dtype that nothing is computed or loaded in.
absl::StatusOr<at::ScalarType> ScalarTypeOf(DType dtype);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_SCALAR_TYPE_H_
