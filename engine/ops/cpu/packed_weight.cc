#include "engine/ops/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "engine/ops/cpu/huge_pages.h"

namespace causeway {

using cpu::kPanel;

PackedWeight::PackedWeight(int64_t out, int64_t in, bool bias, at::ScalarType dtype) : out_(out), in_(in), dtype_(dtype) {
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "packed weights are bf16 or fp32, not ", dtype);
  panels_ = at::empty({cpu::PanelsOf(out), cpu::UnitsOf(element(), in), kPanel}, at::kInt);
  AskForHugePages(panels_.mutable_data_ptr(), panels_.nbytes());
  panels_.zero_();
  if (bias) bias_ = at::zeros({out}, at::kFloat);
}

void PackedWeight::SetRows(int64_t first, const at::Tensor& rows) {
  TORCH_CHECK(rows.dim() == 2 && rows.size(1) == in_ && first >= 0 && first + rows.size(0) <= out_, "rows ", rows.sizes(),
              " at ", first, " don't fit a weight of ", out_, " x ", in_);
  c10::InferenceMode guard;
  const at::Tensor source = rows.to(at::kCPU, dtype_).contiguous();
  const int64_t units = cpu::UnitsOf(element(), in_), row_bytes = in_ * source.element_size();
  const char* from = static_cast<const char*>(source.const_data_ptr());
  uint32_t* panels = static_cast<uint32_t*>(panels_.mutable_data_ptr());
  constexpr int64_t kRun = 64;  // units taken from each row before the next row: what is written to stays in L1
  uint32_t run[kRun];
  for (int64_t row = first; row < first + rows.size(0);) {
    const int64_t panel_end = std::min((row / kPanel + 1) * kPanel, first + rows.size(0));
    for (int64_t u0 = 0; u0 < units; u0 += kRun) {
      const int64_t n = std::min(kRun, units - u0);
      for (int64_t r = row; r < panel_end; ++r) {
        run[n - 1] = 0;  // half of the last unit when `in` is odd
        std::memcpy(run, from + (r - first) * row_bytes + u0 * 4, std::min(n * 4, row_bytes - u0 * 4));
        uint32_t* to = panels + (r / kPanel * units + u0) * kPanel + r % kPanel;
        for (int64_t u = 0; u < n; ++u) to[u * kPanel] = run[u];
      }
    }
    row = panel_end;
  }
}

void PackedWeight::SetBias(int64_t first, const at::Tensor& bias) {
  TORCH_CHECK(bias_.defined(), "SetBias on a weight made without a bias");
  c10::InferenceMode guard;
  // Rounded as the weight is, so that it is what a tensor of that dtype would hold.
  bias_.narrow(0, first, bias.size(0)).copy_(bias.to(dtype_));
}

void PackedWeight::CopyRow(int64_t row, void* to) const {
  const int64_t units = cpu::UnitsOf(element(), in_);
  const uint32_t* from = panels() + row / kPanel * units * kPanel + row % kPanel;
  char* out = static_cast<char*>(to);
  const int64_t bytes = in_ * (dtype_ == at::kFloat ? 4 : 2);
  for (int64_t u = 0; u < units; ++u) std::memcpy(out + u * 4, from + u * kPanel, std::min<int64_t>(4, bytes - u * 4));
}

}  // namespace causeway
