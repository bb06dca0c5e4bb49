// Linears cut over a parallel group.
#ifndef CAUSEWAY_ENGINE_MODEL_LINEAR_H_
#define CAUSEWAY_ENGINE_MODEL_LINEAR_H_

#include <cstdint>
#include <memory>
#include <utility>

#include <c10/util/Exception.h>

#include "absl/status/statusor.h"
#include "engine/architecture/shard.h"
#include "engine/architecture/spec.h"
#include "engine/device/communicator.h"
#include "engine/model/context.h"

namespace causeway {

// A shard's weight. The weight may be shared: a tied head computes from the embedding's.
class Linear {
 public:
  // An unfilled weight; the loader fills it. The fetcher has charge of it where it is offloaded.
  Linear(const ModelContext& context, const LinearSpec& spec, LinearShard shard);
  // Computes from `shared`, which another fills.
  Linear(const LinearSpec& spec, std::shared_ptr<LinearWeight> shared);

  // x [tokens, in_count] -> [tokens, out_count].
  at::Tensor Forward(const at::Tensor& x) const {
    const FetchedWeight fetched(fetcher_, *weight_);
    return fetched.weight.Forward(x);
  }

  // The same, row-parallel ones with the other ranks' parts added.
  at::Tensor ForwardWhole(const at::Tensor& x, Communicator* ranks) const {
    at::Tensor y = Forward(x);
    if (shard_.partial) ranks->AllReduce(y);
    return y;
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

// The shards of the group's rank, which must exist: c10::Error where they cannot be cut.
template <class Shards>
Shards OrThrow(absl::StatusOr<Shards> shards) {
  TORCH_CHECK(shards.ok(), shards.status().message());
  return *std::move(shards);
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_LINEAR_H_
