#include "engine/ops/compact_weight.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "engine/base/limits.h"
#include "engine/ops/quantize.h"

namespace causeway {

CompactWeight::CompactWeight(int64_t out, int64_t in, bool bias, at::ScalarType dtype, at::Device device,
                             const WeightFormat& format)
    : in_(in), dtype_(dtype), format_(format) {
  const bool int4 = format.kind == WeightKind::kInt4;
  TORCH_CHECK(format.kind != WeightKind::kFloat && in > 0, "a quantized weight of ", out, " x ", in,
              " needs a format and inputs");
  const auto options = at::TensorOptions().device(device);
  const int64_t groups = format.groups(in);
  values_ = at::zeros({out, int4 ? (in + 1) / 2 : in},
                      options.dtype(format.kind == WeightKind::kInt8 ? at::kChar : at::kByte));
  scales_ = at::zeros({out, groups}, options.dtype(int4 ? at::kHalf : at::kFloat));
  if (int4 && format.zero_points) zeros_ = at::zeros({out, groups}, options.dtype(at::kByte));
  if (format.reordered) order_ = at::empty({in}, options.dtype(at::kInt));
  if (bias) bias_ = at::zeros({out}, options.dtype(dtype));
}

std::vector<at::Tensor> CompactWeight::Tensors() const {
  std::vector<at::Tensor> held;
  for (const at::Tensor* tensor : {&values_, &scales_, &zeros_, &order_, &bias_}) {
    if (tensor->defined()) held.push_back(*tensor);
  }
  return held;
}

int64_t CompactWeight::bytes() const {
  int64_t bytes = 0;
  for (const at::Tensor& tensor : Tensors()) bytes += tensor.nbytes();
  return bytes;
}

void CompactWeight::SetRows(int64_t first, const at::Tensor& rows) {
  c10::InferenceMode guard;  // loader threads don't hold one
  SetQuantizedRows(first, Quantize(rows, format_));
}

void CompactWeight::SetQuantizedRows(int64_t first, const QuantizedRows& rows) {
  c10::InferenceMode guard;
  const int64_t n = rows.values.size(0), groups = scales_.size(1);
  TORCH_CHECK(rows.values.dim() == 2 && rows.values.size(1) == in_ && first >= 0 && first + n <= out_features(),
              "rows ", rows.values.sizes(), " at ", first, " don't fit a weight of ", out_features(), " x ", in_);
  TORCH_CHECK(rows.scales.sizes() == at::IntArrayRef({n, groups}), "scales of ", rows.scales.sizes(), ", expected [", n,
              ", ", groups, "]");
  TORCH_CHECK(rows.zeros.defined() == zeros_.defined(), "zeros ",
              zeros_.defined() ? "are missing" : "were not expected");
  values_.narrow(0, first, n).copy_(format_.kind == WeightKind::kInt4 ? PackNibbles(rows.values) : rows.values);
  scales_.narrow(0, first, n).copy_(rows.scales);
  if (zeros_.defined()) zeros_.narrow(0, first, n).copy_(rows.zeros);
}

void CompactWeight::SetInputOrder(const at::Tensor& order) {
  c10::InferenceMode guard;
  TORCH_CHECK(order_.defined(), "an input order for a weight made without one");
  TORCH_CHECK(order.scalar_type() == at::kInt && order.dim() == 1 && order.size(0) == in_, "an input order of ",
              order.toString(), " ", order.sizes(), ", expected int32 [", in_, "]");
  order_.copy_(order);
  ordered_ = true;
}

void CompactWeight::SetBias(int64_t first, const at::Tensor& bias) {
  c10::InferenceMode guard;
  TORCH_CHECK(bias_.defined(), "SetBias on a weight made without a bias");
  bias_.narrow(0, first, bias.size(0)).copy_(bias);
}

template <class Pick>
at::Tensor CompactWeight::Rows(const Pick& pick) const {
  QuantizedRows rows;
  rows.values = format_.kind == WeightKind::kInt4 ? UnpackNibbles(pick(values_), in_) : pick(values_);
  rows.scales = pick(scales_);
  if (zeros_.defined()) rows.zeros = pick(zeros_);
  return Dequantize(rows, format_).to(dtype_);
}

at::Tensor CompactWeight::Forward(const at::Tensor& x) const {
  if (device() != x.device()) return Forward(x.to(device())).to(x.device());
  const at::Tensor input = ordered_ ? x.index_select(1, order_) : x;
  const int64_t out = out_features(), step = std::max(kDequantizedOutputs, kDequantizedElements / in_);
  const at::Tensor y = at::empty({x.size(0), out}, x.options());  // pieces are copied: linear's result is contiguous
  for (int64_t first = 0; first < out; first += step) {
    const int64_t n = std::min(step, out - first);
    const at::Tensor weight = Rows([&](const at::Tensor& held) { return held.narrow(0, first, n); });
    const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_.narrow(0, first, n)) : std::nullopt;
    y.narrow(1, first, n).copy_(at::linear(input, weight, bias));
  }
  return y;
}

at::Tensor CompactWeight::Lookup(const at::Tensor& ids) const {
  TORCH_CHECK(!ordered_, "a weight whose inputs are reordered is no table of embeddings");
  return Rows([&](const at::Tensor& held) { return held.index_select(0, ids); });
}

}  // namespace causeway
