#include "engine/model/layer.h"

namespace causeway {

Layer::Layer(const ModelContext& context, const LayerSpec& spec)
    : attention_norm_(context, spec.attention_norm, context.spec.hidden_size),
      attention_(context, spec.attention),
      mlp_norm_(context, spec.mlp_norm, context.spec.hidden_size),
      mlp_(context, spec.mlp) {}

at::Tensor AddAndNorm(Ops& ops, const Norm& norm, Hidden& hidden) {
  if (!hidden.update.defined()) return norm.Forward(ops, hidden.residual, at::Tensor());
  at::Tensor normed = norm.Forward(ops, hidden.update, hidden.residual);
  hidden.update.reset();
  return normed;
}

void Layer::Forward(Ops& ops, Hidden& hidden, const RotaryTables& rotary, const AttentionBatch& batch, KvLayer& cache) const {
  hidden.update = attention_.Forward(ops, AddAndNorm(ops, attention_norm_, hidden), rotary, batch, cache);
  hidden.update = mlp_.Forward(ops, AddAndNorm(ops, mlp_norm_, hidden));
}

}  // namespace causeway
