// What every module computes a step with.
#ifndef CAUSEWAY_ENGINE_MODEL_FORWARD_CONTEXT_H_
#define CAUSEWAY_ENGINE_MODEL_FORWARD_CONTEXT_H_

#include "engine/device/communicator.h"
#include "engine/model/rotary.h"
#include "engine/ops/ops.h"

namespace causeway {

struct ForwardContext {
  Ops& ops;
  const AttentionBatch& batch;
  const RotaryTables& rotary;
  Communicator* ranks = nullptr;  // of the group that the model is cut over; null: it is whole
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_FORWARD_CONTEXT_H_
