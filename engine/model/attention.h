// Self-attention over the paged KV cache.
#ifndef CAUSEWAY_ENGINE_MODEL_ATTENTION_H_
#define CAUSEWAY_ENGINE_MODEL_ATTENTION_H_

#include <vector>

#include "engine/model/forward_context.h"
#include "engine/model/linear.h"
#include "engine/model/norm.h"

namespace causeway {

class Attention {
 public:
  Attention(const ModelContext& context, const AttentionSpec& spec);

  // x [tokens, hidden] (given away: its memory is free for what follows) -> [tokens, hidden]; writes this step's keys
  // and values to `cache`.
  at::Tensor Forward(const ForwardContext& context, at::Tensor x, KvLayer& cache) const;

  const Linear& qkv() const { return qkv_; }
  const Linear& output() const { return output_; }
  const std::vector<Norm>& norms() const { return norms_; }  // of queries and of keys, or none

 private:
  Attention(const ModelContext& context, const AttentionSpec& spec, AttentionShard shard);
  void NormHeads(Ops& ops, at::Tensor& qkv, Communicator* ranks) const;

  const int64_t heads_, kv_heads_;          // of this rank
  const int64_t all_heads_, all_kv_heads_;  // of all ranks
  const int64_t head_dim_;
  const double scale_;
  const int64_t window_;
  const bool norms_per_head_;
  Linear qkv_, output_;
  std::vector<Norm> norms_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_ATTENTION_H_
