// Bytes beside the weights: the KV cache and a step's activations.
#ifndef CAUSEWAY_ENGINE_PLAN_MEMORY_H_
#define CAUSEWAY_ENGINE_PLAN_MEMORY_H_

#include <cstdint>

#include "engine/architecture/spec.h"
#include "engine/base/limits.h"
#include "engine/plan/plan.h"

namespace causeway {

// Keys and values of one token in one layer, with their scales where there are some.
int64_t LayerKvBytesPerToken(const ModelSpec& spec, const PlanOptions& options);

// Of one block of the KV cache in one layer.
inline int64_t LayerKvBytesPerBlock(const ModelSpec& spec, const PlanOptions& options) {
  return kBlockTokens * LayerKvBytesPerToken(spec, options);
}

// ActivationBytes in parts, so that auto can add devices up without listing units: `layer_bytes` is what the hungriest
// layer held needs (LayerActivationBytes), 0 for none.
struct StageShape {
  bool embeddings = false, norm = false, head = false;
  int64_t layer_bytes = 0;
};
int64_t LayerActivationBytes(const ModelSpec& spec, const LayerSpec& layer, const PlanOptions& options,
                             DeviceKind kind);
int64_t StageActivationBytes(const ModelSpec& spec, const StageShape& shape, const PlanOptions& options,
                             DeviceKind kind);

// What the whole model's small weights take of a CUDA device beside their own bytes, on top of ReserveBytes: they share
// segments of 2 MiB, half of which may stay empty, and their part of the weights' segment is not used.
int64_t SmallWeightBytes(const ModelSpec& spec);

// Whether attention holds the scores of some queries over all of their context, as the reference does.
bool HoldsScores(const ModelSpec& spec, const PlanOptions& options, DeviceKind kind);

// Hidden states that a device has computed and others have not yet used up, when `devices` work on one step more than
// there are of them: on top of ActivationBytes on every one of several devices of a kind, 0 for one.
int64_t HandoffBytes(const ModelSpec& spec, const PlanOptions& options, int devices, DeviceKind kind);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_MEMORY_H_
