#include "engine/model/attention.h"

#include <utility>

namespace causeway {

Attention::Attention(const ModelContext& context, const AttentionSpec& spec)
    : Attention(context, spec, OrThrow(ShardAttention(context.spec, spec, context.group))) {}

Attention::Attention(const ModelContext& context, const AttentionSpec& spec, AttentionShard shard)
    : heads_(shard.share.heads),
      kv_heads_(shard.share.kv_heads),
      head_dim_(context.spec.head_dim),
      scale_(spec.scale),
      window_(spec.sliding_window),
      norms_per_head_(spec.norms && spec.norms->per_head),
      qkv_(context, spec.qkv, std::move(shard.qkv)),
      output_(context, spec.output, std::move(shard.output)) {
  if (!spec.norms) return;
  // Nothing brings the other ranks' squares yet (MissingForGroup).
  TORCH_CHECK(context.group.size == 1 || !NormsAllHeads(spec), spec.norms->query.weight,
              ": a norm over the heads of all ", context.group.size, " ranks is not supported");
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
