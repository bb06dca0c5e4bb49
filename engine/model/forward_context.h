// What every module computes a step with.
#ifndef CAUSEWAY_ENGINE_MODEL_FORWARD_CONTEXT_H_
#define CAUSEWAY_ENGINE_MODEL_FORWARD_CONTEXT_H_

#include "engine/model/rotary.h"
#include "engine/ops/ops.h"

namespace causeway {

struct ForwardContext {
  Ops& ops;
  const AttentionBatch& batch;
  const RotaryTables& rotary;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_FORWARD_CONTEXT_H_
