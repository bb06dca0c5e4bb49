#include "engine/model/attention.h"

#include <algorithm>
#include <utility>

namespace causeway {

Attention::Attention(const ModelContext& context, const AttentionSpec& spec)
    : Attention(context, spec, OrThrow(ShardAttention(context.spec, spec, context.group))) {}

Attention::Attention(const ModelContext& context, const AttentionSpec& spec, AttentionShard shard)
    : heads_(shard.share.heads.count),
      kv_heads_(shard.share.kv_heads.count),
      all_heads_(context.spec.heads),
      all_kv_heads_(context.spec.kv_heads),
      head_dim_(context.spec.head_dim),
      scale_(spec.scale),
      window_(spec.sliding_window),
      norms_per_head_(spec.norms && spec.norms->per_head),
      qkv_(context, spec.qkv, std::move(shard.qkv)),
      output_(context, spec.output, std::move(shard.output)) {
  if (!spec.norms) return;
  const auto add = [&](const NormSpec& norm, ShareRange heads) {
    const int64_t first = norms_per_head_ ? 0 : heads.first;
    norms_.emplace_back(context, norm, norms_per_head_ ? head_dim_ : heads.count * head_dim_, first * head_dim_);
  };
  add(spec.norms->query, shard.share.heads);
  add(spec.norms->key, shard.share.kv_heads);
}

at::Tensor Attention::Forward(const ForwardContext& context, at::Tensor x, KvLayer& cache) const {
  const auto& [ops, batch, rotary, ranks] = context;
  at::Tensor qkv = qkv_.Forward(x);  // [tokens, (heads + 2 kv_heads) * head_dim]
  x.reset();
  if (!norms_.empty()) NormHeads(ops, qkv, ranks);
  ops.RotaryAndCache(qkv, rotary.cos, rotary.sin, heads_, kv_heads_, head_dim_, batch, cache);
  at::Tensor attended = ops.PagedAttention(qkv, heads_, kv_heads_, head_dim_, scale_, window_, batch,
                                           cache);  // [tokens, heads * head_dim]
  qkv.reset();
  return output_.ForwardWhole(attended, ranks);
}

void Attention::NormHeads(Ops& ops, at::Tensor& qkv, Communicator* ranks) const {
  const int64_t queries = heads_ * head_dim_;
  if (norms_per_head_ || ranks == nullptr) {
    norms_[0].ForwardColumns(ops, qkv, 0, norms_per_head_ ? heads_ : 1);
    norms_[1].ForwardColumns(ops, qkv, queries, norms_per_head_ ? kv_heads_ : 1);
    return;
  }
  // Keys that several ranks have count for each of them, so that their sum is of as many more columns.
  at::Tensor squares = ops.SquareSums(qkv, {queries, kv_heads_ * head_dim_});
  ranks->AllReduce(squares);
  const int64_t key_copies = std::max<int64_t>(1, ranks->size() / all_kv_heads_);
  norms_[0].ForwardColumns(ops, qkv, 0, squares, 0, all_heads_ * head_dim_);
  norms_[1].ForwardColumns(ops, qkv, queries, squares, 1, key_copies * all_kv_heads_ * head_dim_);
}

}  // namespace causeway
