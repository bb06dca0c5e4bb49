#include "engine/model/mlp.h"

#include <vector>

namespace causeway {
namespace {

// Each group of outputs is cut on its own, so that a rank holds the same share of the gate as of what it gates.
std::vector<int64_t> UpGroups(const MlpSpec& spec) {
  const int64_t outputs = spec.up.out_features();
  if (!spec.gated) return {outputs};
  return {outputs / 2, outputs / 2};
}

}  // namespace

Mlp::Mlp(const ModelContext& context, const MlpSpec& spec)
    : gated_(spec.gated),
      activation_(spec.activation),
      up_(ColumnParallelLinear(context, spec.up, UpGroups(spec))),
      down_(RowParallelLinear(context, spec.down)) {}

at::Tensor Mlp::Forward(const ForwardContext& context, at::Tensor x) const {
  at::Tensor up = up_.Forward(x);  // [tokens, intermediate], twice that when gated
  x.reset();
  at::Tensor activated = context.ops.Activate(up, activation_, gated_);  // [tokens, intermediate]
  up.reset();
  return down_.Forward(activated);
}

}  // namespace causeway
