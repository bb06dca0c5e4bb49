#include "engine/model/norm.h"

#include <ATen/ops/empty.h>

namespace causeway {

Norm::Norm(const ModelContext& context, const NormSpec& spec, int64_t width, int64_t first)
    : spec_(spec), first_(first) {
  const at::TensorOptions options = at::TensorOptions(context.dtype).device(context.device);
  weight_ = at::empty({width}, options);
  if (!spec.bias.empty()) bias_ = at::empty({width}, options);
}

at::Tensor Norm::Forward(Ops& ops, const at::Tensor& x, const at::Tensor& residual) const {
  if (spec_.kind == NormKind::kRms) return ops.RmsNorm(x, residual, weight_, spec_.eps);
  return ops.LayerNorm(x, residual, weight_, bias_, spec_.eps);
}

void Norm::ForwardColumns(Ops& ops, at::Tensor& x, int64_t first, int64_t groups) const {
  ops.NormColumns(x, first, groups, weight_.size(0), weight_, spec_.eps);
}

void Norm::ForwardColumns(Ops& ops, at::Tensor& x, int64_t first, const at::Tensor& squares, int64_t run,
                          int64_t all) const {
  ops.ScaleColumns(x, first, weight_, squares, run, all, spec_.eps);
}

}  // namespace causeway
