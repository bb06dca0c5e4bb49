// What every module of a model is built with.
#ifndef CAUSEWAY_ENGINE_MODEL_CONTEXT_H_
#define CAUSEWAY_ENGINE_MODEL_CONTEXT_H_

#include <ATen/core/Tensor.h>

#include "engine/architecture/shard.h"
#include "engine/architecture/spec.h"
#include "engine/ops/ops.h"
#include "engine/weights/fetcher.h"

namespace causeway {

struct ModelContext {
  const ModelSpec& spec;
  Ops& ops;
  at::Device device;
  at::ScalarType dtype;  // of weights, keys and values; the ops say what activations are of
  ParallelGroup group;
  WeightFetcher* fetcher = nullptr;  // of what the device does not hold; null: it holds all
  int layer = 0;                     // that is built
  bool expert = false;               // what is built computes in some steps only
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_CONTEXT_H_
