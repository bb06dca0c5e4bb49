// What the weights of the CPU's kernels have in common: panels of rows (kernels.h), the only copy of the weight.
// Linears stream it, and embeddings pick rows out of it.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_PANEL_WEIGHT_H_
#define CAUSEWAY_ENGINE_OPS_CPU_PANEL_WEIGHT_H_

#include <cstdint>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/tensor_data.h"
#include "engine/ops/ops.h"

namespace causeway {

class PanelWeight : public LinearWeight {
 public:
  int64_t out_features() const final { return out_; }
  int64_t in_features() const final { return in_; }
  int64_t bytes() const final;  // padding included
  at::ScalarType dtype() const { return dtype_; }
  at::ScalarType activations() const { return cpu::ActivationsBeside(dtype_); }  // of x and of results
  cpu::Element element() const { return cpu::ElementOf(dtype_); }
  const float* bias() const { return bias_.defined() ? static_cast<const float*>(bias_.const_data_ptr()) : nullptr; }

  void SetBias(int64_t first, const at::Tensor& bias) final;
  at::Tensor Forward(const at::Tensor& x) const final;
  at::Tensor Lookup(const at::Tensor& ids) const final;

  // Writes row `row` as in_features() elements of activations(), in the order of x.
  virtual void CopyRow(int64_t row, void* to) const = 0;

 protected:
  // `dtype` is bf16, fp16 or fp32. Memory comes from ATen's CPU allocator. The kernels must outlive this.
  PanelWeight(const cpu::Kernels& kernels, int64_t out, int64_t in, bool bias, at::ScalarType dtype);

  const cpu::Kernels& kernels_;
  const int64_t out_, in_;
  const at::ScalarType dtype_;
  at::Tensor bias_;  // fp32 [out], or undefined
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_PANEL_WEIGHT_H_
