#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/kernels.h"

namespace causeway {

int64_t CpuWeightBytes(int64_t out, int64_t in, bool bias, int64_t element_bytes, const WeightFormat& format) {
  const int64_t panel_bytes =
      format.kind != WeightKind::kFloat
          ? cpu::LayoutOf(format, in).panel_bytes
          : cpu::UnitsOf(element_bytes == 2 ? cpu::Element::kBf16 : cpu::Element::kFp32, in) * cpu::kPanel * 4;
  return cpu::PanelsOf(out) * panel_bytes + (format.reordered ? in * 4 : 0) + (bias ? out * 4 : 0);
}

}  // namespace causeway
