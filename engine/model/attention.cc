#include "engine/model/attention.h"

namespace causeway {

Attention::Attention(const ModelContext& context, const AttentionSpec& spec)
    : heads_(context.spec.heads / context.group.size),
      kv_heads_(context.spec.kv_heads / context.group.size),
      head_dim_(context.spec.head_dim),
      scale_(spec.scale),
      window_(spec.sliding_window),
      qkv_(ColumnParallelLinear(context, spec.qkv,
                                {context.spec.heads * head_dim_, context.spec.kv_heads * head_dim_, context.spec.kv_heads * head_dim_})),
      output_(RowParallelLinear(context, spec.output)) {}

at::Tensor Attention::Forward(Ops& ops, at::Tensor x, const RotaryTables& rotary, const AttentionBatch& batch,
                              KvLayer& cache) const {
  at::Tensor qkv = qkv_.Forward(ops, x);  // [tokens, (heads + 2 kv_heads) * head_dim]
  x.reset();
  ops.RotaryAndCache(qkv, rotary.cos, rotary.sin, heads_, kv_heads_, head_dim_, batch, cache);
  at::Tensor attended = ops.PagedAttention(qkv, heads_, kv_heads_, head_dim_, scale_, window_, batch, cache);  // [tokens, heads * head_dim]
  qkv.reset();
  return output_.Forward(ops, attended);
}

}  // namespace causeway
