#include "engine/model/layer.h"

namespace causeway {
namespace {

std::variant<Mlp, Moe> FeedForward(const ModelContext& context, const LayerSpec& spec) {
  if (spec.moe.has_value()) return Moe(context, *spec.moe);
  return Mlp(context, spec.mlp);
}

}  // namespace

Layer::Layer(const ModelContext& context, const LayerSpec& spec)
    : attention_norm_(context, spec.attention_norm, context.spec.hidden_size),
      attention_(context, spec.attention),
      mlp_norm_(context, spec.mlp_norm, context.spec.hidden_size),
      feed_forward_(FeedForward(context, spec)) {}

at::Tensor AddAndNorm(Ops& ops, const Norm& norm, Hidden& hidden) {
  if (!hidden.update.defined()) return norm.Forward(ops, hidden.residual, at::Tensor());
  at::Tensor normed = norm.Forward(ops, hidden.update, hidden.residual);
  hidden.update.reset();
  return normed;
}

void Layer::Forward(const ForwardContext& context, Hidden& hidden, KvLayer& cache) const {
  hidden.update = attention_.Forward(context, AddAndNorm(context.ops, attention_norm_, hidden), cache);
  hidden.update =
      std::visit([&](const auto& part) { return part.Forward(context, AddAndNorm(context.ops, mlp_norm_, hidden)); },
                 feed_forward_);
}

}  // namespace causeway
