// A linear's quantized weight in panels (quantized_layout.h), the only copy of it: linears stream it, embeddings take
// rows.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_WEIGHT_H_
#define CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

namespace causeway {

class QuantizedWeight : public LinearWeight {
 public:
  // Computed with in bf16 or fp32. kInt4 and kFp8 take groups of a multiple of 32 inputs, or of all of them (0). Memory
  // comes from ATen's CPU allocator, in huge pages where there are some; rows hold anything until they are set.
  QuantizedWeight(int64_t out, int64_t in, bool bias, at::ScalarType dtype, const WeightFormat& format);

  int64_t out_features() const override { return out_; }
  int64_t in_features() const override { return in_; }
  int64_t bytes() const override;  // padding and the order of inputs included
  std::vector<at::Tensor> Tensors() const override;
  at::ScalarType dtype() const { return dtype_; }
  const WeightFormat& format() const { return format_; }
  cpu::Element element() const { return dtype_ == at::kFloat ? cpu::Element::kFp32 : cpu::Element::kBf16; }
  const cpu::QuantizedLayout& layout() const { return layout_; }
  const uint8_t* panels() const { return static_cast<const uint8_t*>(panels_.const_data_ptr()); }
  // Null until one is set.
  const int32_t* order() const { return ordered_ ? static_cast<const int32_t*>(order_.const_data_ptr()) : nullptr; }
  const float* bias() const { return bias_.defined() ? static_cast<const float*>(bias_.const_data_ptr()) : nullptr; }

  // As Ops::SetQuantizedRows, SetInputOrder and SetBias.
  void SetRows(int64_t first, const QuantizedRows& rows);
  void SetInputOrder(const at::Tensor& order);
  void SetBias(int64_t first, const at::Tensor& bias);
  // Row `row`, dequantized, as in_features() elements of dtype() in the order of x.
  void CopyRow(int64_t row, void* to) const;

 private:
  void SetHeads(int64_t first, const QuantizedRows& rows);
  uint8_t* Head(int64_t row, int64_t group) {
    return static_cast<uint8_t*>(panels_.mutable_data_ptr()) + row / cpu::kPanel * layout_.panel_bytes +
           group * layout_.group_bytes;
  }

  const int64_t out_, in_;
  const at::ScalarType dtype_;
  const WeightFormat format_;
  const cpu::QuantizedLayout layout_;
  at::Tensor panels_;  // uint8 [panels, layout_.panel_bytes]
  at::Tensor order_;   // int32 [in], or undefined; of no meaning until ordered_
  bool ordered_ = false;
  at::Tensor bias_;  // fp32 [out], or undefined
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_WEIGHT_H_
