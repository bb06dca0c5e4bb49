// ReferenceOps' quantized weight. It is held compactly on any device, and dequantized in pieces whenever it is used.
#ifndef CAUSEWAY_ENGINE_OPS_COMPACT_WEIGHT_H_
#define CAUSEWAY_ENGINE_OPS_COMPACT_WEIGHT_H_

#include <cstdint>
#include <vector>

#include "engine/ops/ops.h"

namespace causeway {

class CompactWeight final : public LinearWeight {
 public:
  CompactWeight(int64_t out, int64_t in, bool bias, at::ScalarType dtype, at::Device device,
                const WeightFormat& format);

  int64_t out_features() const override { return values_.size(0); }
  int64_t in_features() const override { return in_; }
  int64_t bytes() const override;
  at::Device device() const override { return values_.device(); }
  std::vector<at::Tensor> Tensors() const override;

  void SetRows(int64_t first, const at::Tensor& rows) override;
  void SetQuantizedRows(int64_t first, const QuantizedRows& rows) override;
  void SetInputOrder(const at::Tensor& order) override;
  void SetBias(int64_t first, const at::Tensor& bias) override;
  at::Tensor Forward(const at::Tensor& x) const override;
  at::Tensor Lookup(const at::Tensor& ids) const override;

 private:
  // `pick` takes rows out of each tensor that is held. Returns what they stand for, [n, in] in the computation's dtype.
  template <class Pick>
  at::Tensor Rows(const Pick& pick) const;

  const int64_t in_;
  const at::ScalarType dtype_;
  const WeightFormat format_;
  at::Tensor values_;  // [out, in]; kInt4 packed, [out, (in + 1) / 2]
  at::Tensor scales_;  // [out, groups]; kInt4 fp16, else fp32
  at::Tensor zeros_;   // uint8 [out, groups], or undefined
  at::Tensor order_;   // int32 [in], or undefined; has a meaning only once ordered_
  bool ordered_ = false;
  at::Tensor bias_;  // [out], or undefined
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_COMPACT_WEIGHT_H_
