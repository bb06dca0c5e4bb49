#include "engine/model/mlp.h"

#include <utility>

namespace causeway {

Mlp::Mlp(const ModelContext& context, const MlpSpec& spec)
    : Mlp(context, spec, OrThrow(ShardMlp(spec, context.group))) {}

Mlp::Mlp(const ModelContext& context, const MlpSpec& spec, MlpShard shard)
    : gated_(spec.gated),
      activation_(spec.activation),
      up_(context, spec.up, std::move(shard.up)),
      down_(context, spec.down, std::move(shard.down)) {}

at::Tensor Mlp::Forward(const ForwardContext& context, at::Tensor x) const {
  at::Tensor up = up_.Forward(x);  // [tokens, intermediate], twice that when gated
  x.reset();
  at::Tensor activated = context.ops.Activate(up, activation_, gated_);  // [tokens, intermediate]
  up.reset();
  return down_.ForwardWhole(activated, context.ranks);
}

}  // namespace causeway
