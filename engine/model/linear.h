// Linears cut over a parallel group.
#ifndef CAUSEWAY_ENGINE_MODEL_LINEAR_H_
#define CAUSEWAY_ENGINE_MODEL_LINEAR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/architecture/spec.h"
#include "engine/model/context.h"

namespace causeway {

// What one rank holds of a LinearSpec.
struct LinearShard {
  // Of the outputs of all parts, concatenated: the runs held here, in the order they are held.
  struct Run {
    int64_t first = 0, count = 0;
  };
  std::vector<Run> outputs;
  int64_t in_first = 0, in_count = 0;
  bool bias = false;

  int64_t out_count() const;
};

// Cuts outputs: of each of `groups` (sizes that add up to the spec's outputs: q, k, v; or gate, up) rank r has the r-th
// of `size` equal shares. Outputs stay apart between ranks; no sum is needed.
LinearShard ColumnShard(const LinearSpec& spec, const std::vector<int64_t>& groups, ParallelGroup group);
// Cuts inputs: the ranks' outputs add up to the whole, the bias being added by rank 0 alone.
LinearShard RowShard(const LinearSpec& spec, ParallelGroup group);

// A shard's weight. The weight may be shared: a tied head computes from the embedding's.
class Linear {
 public:
  // An unfilled weight; the loader fills it. The fetcher has charge of it where it is offloaded.
  Linear(const ModelContext& context, const LinearSpec& spec, LinearShard shard);
  // Computes from `shared`, which another fills.
  Linear(const LinearSpec& spec, std::shared_ptr<LinearWeight> shared);

  // x [tokens, in_count] -> [tokens, out_count].
  at::Tensor Forward(Ops& ops, const at::Tensor& x) const {
    const FetchedWeight fetched(fetcher_, *weight_);
    return ops.Linear(x, fetched.weight);
  }

  const LinearSpec& spec() const { return spec_; }
  const LinearShard& shard() const { return shard_; }
  const std::shared_ptr<LinearWeight>& weight() const { return weight_; }
  WeightFetcher* fetcher() const { return fetcher_; }  // null: the weight is held

 private:
  LinearSpec spec_;
  LinearShard shard_;
  WeightFetcher* fetcher_ = nullptr;
  std::shared_ptr<LinearWeight> weight_;
};

inline Linear ColumnParallelLinear(const ModelContext& context, const LinearSpec& spec,
                                   const std::vector<int64_t>& groups) {
  return Linear(context, spec, ColumnShard(spec, groups, context.group));
}
inline Linear RowParallelLinear(const ModelContext& context, const LinearSpec& spec) {
  return Linear(context, spec, RowShard(spec, context.group));
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_LINEAR_H_
