// RMS and layer norms.
#ifndef CAUSEWAY_ENGINE_MODEL_NORM_H_
#define CAUSEWAY_ENGINE_MODEL_NORM_H_

#include "engine/architecture/spec.h"
#include "engine/model/context.h"

namespace causeway {

class Norm {
 public:
  // Over rows, or runs of columns, `width` wide.
  Norm(const ModelContext& context, const NormSpec& spec, int64_t width);

  // x, residual [tokens, width]; residual may be undefined, else residual += x first, and the norm is of the sum.
  at::Tensor Forward(Ops& ops, const at::Tensor& x, const at::Tensor& residual) const;

  // In place: RMS norms of `groups` runs of columns of x [tokens, columns], from column `first` on.
  void ForwardColumns(Ops& ops, at::Tensor& x, int64_t first, int64_t groups) const;

  const NormSpec& spec() const { return spec_; }
  const at::Tensor& weight() const { return weight_; }
  const at::Tensor& bias() const { return bias_; }  // undefined: none

 private:
  NormSpec spec_;
  at::Tensor weight_, bias_;  // [width]
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_NORM_H_
