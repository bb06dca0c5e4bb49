#include "engine/model/attention.h"

#include <c10/util/Exception.h>

namespace causeway {

Attention::Attention(const ModelContext& context, const AttentionSpec& spec)
    : heads_(context.spec.heads / context.group.size),
      kv_heads_(context.spec.kv_heads / context.group.size),
      head_dim_(context.spec.head_dim),
      scale_(spec.scale),
      window_(spec.sliding_window),
      norms_per_head_(spec.norms && spec.norms->per_head),
      qkv_(ColumnParallelLinear(
          context, spec.qkv,
          {context.spec.heads * head_dim_, context.spec.kv_heads * head_dim_, context.spec.kv_heads * head_dim_})),
      output_(RowParallelLinear(context, spec.output)) {
  if (!spec.norms) return;
  // A norm over all heads needs the other ranks' squares.
  TORCH_CHECK(norms_per_head_ || context.group.size == 1, "norms of whole projections cannot be cut into ",
              context.group.size, " shares");
  norms_.emplace_back(context, spec.norms->query, norms_per_head_ ? head_dim_ : heads_ * head_dim_);
  norms_.emplace_back(context, spec.norms->key, norms_per_head_ ? head_dim_ : kv_heads_ * head_dim_);
}

at::Tensor Attention::Forward(const ForwardContext& context, at::Tensor x, KvLayer& cache) const {
  const auto& [ops, batch, rotary] = context;
  at::Tensor qkv = qkv_.Forward(x);  // [tokens, (heads + 2 kv_heads) * head_dim]
  x.reset();
  if (!norms_.empty()) {
    norms_[0].ForwardColumns(ops, qkv, 0, norms_per_head_ ? heads_ : 1);
    norms_[1].ForwardColumns(ops, qkv, heads_ * head_dim_, norms_per_head_ ? kv_heads_ : 1);
  }
  ops.RotaryAndCache(qkv, rotary.cos, rotary.sin, heads_, kv_heads_, head_dim_, batch, cache);
  at::Tensor attended = ops.PagedAttention(qkv, heads_, kv_heads_, head_dim_, scale_, window_, batch,
                                           cache);  // [tokens, heads * head_dim]
  qkv.reset();
  return output_.Forward(attended);
}

}  // namespace causeway
