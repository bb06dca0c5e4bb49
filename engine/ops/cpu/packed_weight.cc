#include "engine/ops/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include "engine/ops/cpu/huge_pages.h"

namespace causeway {

using cpu::kPanel;

PackedWeight::PackedWeight(const cpu::Kernels& kernels, int64_t out, int64_t in, bool bias, at::ScalarType dtype)
    : PanelWeight(kernels, out, in, bias, dtype) {
  panels_ = at::empty({cpu::PanelsOf(out), cpu::UnitsOf(element(), in), kPanel}, at::kInt);
  AskForHugePages(panels_.mutable_data_ptr(), panels_.nbytes());
  // Zeroes only what no row fills: the threads that pack the other panels are the first to touch their pages.
  if (out % kPanel != 0) panels_.select(0, panels_.size(0) - 1).zero_();
}

std::vector<at::Tensor> PackedWeight::Tensors() const {
  if (bias_.defined()) return {panels_, bias_};
  return {panels_};
}

void PackedWeight::SetRows(int64_t first, const at::Tensor& rows) {
  TORCH_CHECK(rows.dim() == 2 && rows.size(1) == in_ && first >= 0 && first + rows.size(0) <= out_, "rows ",
              rows.sizes(), " at ", first, " don't fit a weight of ", out_, " x ", in_);
  c10::InferenceMode guard;
  const at::Tensor source = rows.to(at::kCPU, dtype_).contiguous();
  kernels_.pack_rows({element(), source.const_data_ptr(), in_ * source.element_size(), first, rows.size(0),
                      static_cast<uint32_t*>(panels_.mutable_data_ptr()), cpu::UnitsOf(element(), in_)});
}

void PackedWeight::CopyRow(int64_t row, void* to) const {
  const int64_t units = cpu::UnitsOf(element(), in_);
  const uint32_t* panel = panels() + row / kPanel * units * kPanel;
  if (dtype_ == at::kHalf) {
    const c10::Half* halves = reinterpret_cast<const c10::Half*>(panel) + row % kPanel;
    for (int64_t i = 0; i < in_; ++i) static_cast<float*>(to)[i] = halves[i * kPanel];
    return;
  }
  const uint32_t* from = panel + row % kPanel;
  char* out = static_cast<char*>(to);
  const int64_t bytes = in_ * (dtype_ == at::kFloat ? 4 : 2);
  for (int64_t u = 0; u < units; ++u) std::memcpy(out + u * 4, from + u * kPanel, std::min<int64_t>(4, bytes - u * 4));
}

}  // namespace causeway
