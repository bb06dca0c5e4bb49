// A linear's weight in panels of its own dtype.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_PACKED_WEIGHT_H_
#define CAUSEWAY_ENGINE_OPS_CPU_PACKED_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/panel_weight.h"

namespace causeway {

class PackedWeight final : public PanelWeight {
 public:
  // bf16, fp16 or fp32, in huge pages where the system has some. Rows hold anything until they are set.
  PackedWeight(const cpu::Kernels& kernels, int64_t out, int64_t in, bool bias, at::ScalarType dtype);

  std::vector<at::Tensor> Tensors() const override;
  const uint32_t* panels() const { return static_cast<const uint32_t*>(panels_.const_data_ptr()); }

  void SetRows(int64_t first, const at::Tensor& rows) override;
  void CopyRow(int64_t row, void* to) const override;

 private:
  at::Tensor panels_;  // int32 [panels, units, kPanel]
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_PACKED_WEIGHT_H_
