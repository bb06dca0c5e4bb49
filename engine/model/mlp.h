// The feed-forward part of a layer.
#ifndef CAUSEWAY_ENGINE_MODEL_MLP_H_
#define CAUSEWAY_ENGINE_MODEL_MLP_H_

#include "engine/model/forward_context.h"
#include "engine/model/linear.h"

namespace causeway {

class Mlp {
 public:
  Mlp(const ModelContext& context, const MlpSpec& spec);

  // x [tokens, hidden] (given away: its memory is free for what follows) -> [tokens, hidden].
  at::Tensor Forward(const ForwardContext& context, at::Tensor x) const;

  const Linear& up() const { return up_; }
  const Linear& down() const { return down_; }

 private:
  Mlp(const ModelContext& context, const MlpSpec& spec, MlpShard shard);

  const bool gated_;
  const Activation activation_;
  Linear up_, down_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_MLP_H_
