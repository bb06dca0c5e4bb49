// RMS and layer norms.
#ifndef CAUSEWAY_ENGINE_MODEL_NORM_H_
#define CAUSEWAY_ENGINE_MODEL_NORM_H_

#include "engine/architecture/spec.h"
#include "engine/model/context.h"

namespace causeway {

class Norm {
 public:
  Norm(const ModelContext& context, const NormSpec& spec);

  // x, residual [tokens, hidden]; residual may be undefined, else residual += x first, and the norm is of the sum.
  at::Tensor Forward(Ops& ops, const at::Tensor& x, const at::Tensor& residual) const;

  const NormSpec& spec() const { return spec_; }
  const at::Tensor& weight() const { return weight_; }
  const at::Tensor& bias() const { return bias_; }  // undefined: none

 private:
  NormSpec spec_;
  at::Tensor weight_, bias_;  // [hidden]
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_NORM_H_
