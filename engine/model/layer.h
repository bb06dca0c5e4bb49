// One decoder block: attention and feed-forward, each behind a norm and beside the residual.
#ifndef CAUSEWAY_ENGINE_MODEL_LAYER_H_
#define CAUSEWAY_ENGINE_MODEL_LAYER_H_

#include <variant>

#include "engine/model/attention.h"
#include "engine/model/mlp.h"
#include "engine/model/moe.h"
#include "engine/model/norm.h"

namespace causeway {

// Hidden states between layers: `residual` plus, where defined, `update`. The sum is left to the next norm, which reads
// both anyway. Both [tokens, hidden].
struct Hidden {
  at::Tensor residual, update;
};

class Layer {
 public:
  Layer(const ModelContext& context, const LayerSpec& spec);

  // Changes hidden in place.
  void Forward(const ForwardContext& context, Hidden& hidden, KvLayer& cache) const;

  const Norm& attention_norm() const { return attention_norm_; }
  const Attention& attention() const { return attention_; }
  const Norm& mlp_norm() const { return mlp_norm_; }
  // One of the two; null otherwise.
  const Mlp* mlp() const { return std::get_if<Mlp>(&feed_forward_); }
  const Moe* moe() const { return std::get_if<Moe>(&feed_forward_); }

 private:
  Norm attention_norm_;
  Attention attention_;
  Norm mlp_norm_;
  std::variant<Mlp, Moe> feed_forward_;
};

// The norm of the sum; afterwards hidden.residual holds the sum and there is no update.
at::Tensor AddAndNorm(Ops& ops, const Norm& norm, Hidden& hidden);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_LAYER_H_
