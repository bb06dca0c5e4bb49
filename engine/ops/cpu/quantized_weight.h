// A linear's quantized weight in panels (quantized_layout.h).
#ifndef CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_WEIGHT_H_
#define CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/panel_weight.h"

namespace causeway {

class QuantizedWeight final : public PanelWeight {
 public:
  // kInt4 and kFp8 take groups of a multiple of 32 inputs, or of all of them (0). The memory is in huge pages where the
  // system has some. Rows hold anything until they are set.
  QuantizedWeight(const cpu::Kernels& kernels, int64_t out, int64_t in, bool bias, at::ScalarType dtype,
                  const WeightFormat& format);

  std::vector<at::Tensor> Tensors() const override;
  const WeightFormat& format() const { return format_; }
  const cpu::QuantizedLayout& layout() const { return layout_; }
  const uint8_t* panels() const { return static_cast<const uint8_t*>(panels_.const_data_ptr()); }
  // Null until an order is set.
  const int32_t* order() const { return ordered_ ? static_cast<const int32_t*>(order_.const_data_ptr()) : nullptr; }

  void SetRows(int64_t first, const at::Tensor& rows) override;
  void SetQuantizedRows(int64_t first, const QuantizedRows& rows) override;
  void SetInputOrder(const at::Tensor& order) override;
  void CopyRow(int64_t row, void* to) const override;  // dequantized

 private:
  void SetHeads(int64_t first, const QuantizedRows& rows);
  uint8_t* Head(int64_t row, int64_t group) {
    return static_cast<uint8_t*>(panels_.mutable_data_ptr()) + row / cpu::kPanel * layout_.panel_bytes +
           group * layout_.group_bytes;
  }

  const WeightFormat format_;
  const cpu::QuantizedLayout layout_;
  at::Tensor panels_;  // uint8 [panels, layout_.panel_bytes]
  at::Tensor order_;   // int32 [in], or undefined; has a meaning only once ordered_
  bool ordered_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_WEIGHT_H_
