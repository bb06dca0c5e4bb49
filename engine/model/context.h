// What every module of a model is built with.
#ifndef CAUSEWAY_ENGINE_MODEL_CONTEXT_H_
#define CAUSEWAY_ENGINE_MODEL_CONTEXT_H_

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/base/dtype.h"
#include "engine/model/fetcher.h"
#include "engine/ops/ops.h"

namespace causeway {

// The devices that hold one layer's linears together, each a shard. Of size one today: nothing sums the partial outputs
// of larger groups yet, but shards are cut, loaded and tested as if it did.
struct ParallelGroup {
  int rank = 0;
  int size = 1;
};

struct ModelContext {
  const ModelSpec& spec;
  Ops& ops;
  at::Device device;
  at::ScalarType dtype;  // of weights and activations
  ParallelGroup group;
  WeightFetcher* fetcher = nullptr;  // of what the device does not hold; null: it holds all
  bool on_demand = false;            // what is built computes in some steps only (an expert)
};

// Unimplemented names a dtype that nothing is computed or loaded in.
absl::StatusOr<at::ScalarType> ScalarTypeOf(DType dtype);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_CONTEXT_H_
