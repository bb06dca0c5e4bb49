// A linear's weight in panels (kernels.h), the only copy of it: linears stream it, embeddings pick rows out of it.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_PACKED_WEIGHT_H_
#define CAUSEWAY_ENGINE_OPS_CPU_PACKED_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

namespace causeway {

class PackedWeight : public LinearWeight {
 public:
  // bf16 or fp32. Memory comes from ATen's CPU allocator, in huge pages where there are some; rows hold anything until
  // they are set.
  PackedWeight(int64_t out, int64_t in, bool bias, at::ScalarType dtype);

  int64_t out_features() const override { return out_; }
  int64_t in_features() const override { return in_; }
  int64_t bytes() const override { return panels_.nbytes() + (bias_.defined() ? bias_.nbytes() : 0); }
  std::vector<at::Tensor> Tensors() const override;
  at::ScalarType dtype() const { return dtype_; }
  cpu::Element element() const { return dtype_ == at::kFloat ? cpu::Element::kFp32 : cpu::Element::kBf16; }
  const uint32_t* panels() const { return static_cast<const uint32_t*>(panels_.const_data_ptr()); }
  const float* bias() const { return bias_.defined() ? static_cast<const float*>(bias_.const_data_ptr()) : nullptr; }

  // As Ops::SetRows and SetBias.
  void SetRows(const cpu::Kernels& kernels, int64_t first, const at::Tensor& rows);
  void SetBias(int64_t first, const at::Tensor& bias);
  // Row `row` as in_features() elements of dtype().
  void CopyRow(int64_t row, void* to) const;

 private:
  const int64_t out_, in_;
  const at::ScalarType dtype_;
  at::Tensor panels_;  // int32 [panels, units, kPanel]
  at::Tensor bias_;    // fp32 [out], or undefined
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_PACKED_WEIGHT_H_
