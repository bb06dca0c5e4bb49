#include "engine/ops/cpu/panel_weight.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "engine/ops/cpu/linear_runs.h"
#include "engine/ops/cpu/tensor_data.h"

namespace causeway {

PanelWeight::PanelWeight(const cpu::Kernels& kernels, int64_t out, int64_t in, bool bias, at::ScalarType dtype)
    : kernels_(kernels), out_(out), in_(in), dtype_(dtype) {
  TORCH_CHECK(cpu::HasElement(dtype), "weights in panels are computed with in bf16, fp16 or fp32, not ", dtype);
  if (bias) bias_ = at::zeros({out}, at::kFloat);
}

int64_t PanelWeight::bytes() const {
  int64_t bytes = 0;
  for (const at::Tensor& tensor : Tensors()) bytes += tensor.nbytes();
  return bytes;
}

void PanelWeight::SetBias(int64_t first, const at::Tensor& bias) {
  TORCH_CHECK(bias_.defined(), "SetBias on a weight made without a bias");
  c10::InferenceMode guard;  // loader threads don't hold one
  // The bias is rounded as the weight is, so that it is what a tensor of that dtype would hold.
  bias_.narrow(0, first, bias.size(0)).copy_(bias.to(dtype_));
}

at::Tensor PanelWeight::Forward(const at::Tensor& x) const {
  TORCH_CHECK(x.dim() == 2 && x.size(1) == in_, "Linear: x has shape ", x.sizes(), ", the weight takes ", in_,
              " inputs");
  cpu::Data(x, "x", activations());
  at::Tensor y = at::empty({x.size(0), out_}, x.options());
  cpu::RunTogether(kernels_, x, y, {{this, 0, x.size(0)}});
  return y;
}

at::Tensor PanelWeight::Lookup(const at::Tensor& ids) const {
  const int64_t* rows = static_cast<const int64_t*>(cpu::Data(ids, "ids", at::kLong));
  const int64_t n = ids.numel();
  for (int64_t i = 0; i < n; ++i) {
    TORCH_CHECK_INDEX(rows[i] >= 0 && rows[i] < out_, "Embedding: id ", rows[i], " is outside a table of ", out_,
                      " rows");
  }
  at::Tensor y = at::empty({n, in_}, ids.options().dtype(activations()));
  char* to = static_cast<char*>(y.mutable_data_ptr());
  const int64_t row_bytes = in_ * y.element_size();
  cpu::ForRows(n, row_bytes, 32768, [&](int64_t i) { CopyRow(rows[i], to + i * row_bytes); });
  return y;
}

}  // namespace causeway
