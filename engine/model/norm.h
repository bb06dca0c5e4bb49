// RMS and layer norms.
#ifndef CAUSEWAY_ENGINE_MODEL_NORM_H_
#define CAUSEWAY_ENGINE_MODEL_NORM_H_

#include "engine/architecture/spec.h"
#include "engine/model/context.h"

namespace causeway {

class Norm {
 public:
  // Over rows, or runs of columns, `width` wide. The weight's values begin with `first` of the tensor's.
  Norm(const ModelContext& context, const NormSpec& spec, int64_t width, int64_t first = 0);

  // x, residual [tokens, width]; residual may be undefined, else residual += x first, and the norm is of the sum.
  at::Tensor Forward(Ops& ops, const at::Tensor& x, const at::Tensor& residual) const;

  // In place: RMS norms of `groups` runs of columns of x [tokens, columns], from column `first` on.
  void ForwardColumns(Ops& ops, at::Tensor& x, int64_t first, int64_t groups) const;

  // In place: columns from `first` on of x, normed over `all` columns on all ranks, whose sums of squares are column
  // `run` of `squares`.
  void ForwardColumns(Ops& ops, at::Tensor& x, int64_t first, const at::Tensor& squares, int64_t run,
                      int64_t all) const;

  const NormSpec& spec() const { return spec_; }
  const at::Tensor& weight() const { return weight_; }
  int64_t first() const { return first_; }
  const at::Tensor& bias() const { return bias_; }  // undefined: none

 private:
  NormSpec spec_;
  int64_t first_;
  at::Tensor weight_, bias_;  // [width]
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_NORM_H_
