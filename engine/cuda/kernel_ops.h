// Operations by kernels of our own, and by ATen where there is none. Who derives from it says how kernels are launched:
// CudaOps on a GPU, tests on the CPU. So this links no CUDA library.
#ifndef CAUSEWAY_ENGINE_CUDA_KERNEL_OPS_H_
#define CAUSEWAY_ENGINE_CUDA_KERNEL_OPS_H_

#include <optional>

#include <cuda_runtime_api.h>

#include "engine/cuda/cuda_dtype.h"
#include "engine/ops/reference.h"

namespace causeway {

class KernelOps : public ReferenceOps {
 public:
  // Kernels run on tensors of this kind of device. Others, as experts that the CPU computes, are ATen's.
  explicit KernelOps(at::DeviceType kind) : kind_(kind) {}

  at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) override;
  at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                       const at::Tensor& bias, double eps) override;
  void NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                   double eps) override;
  void RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) override;
  at::Tensor PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                            int64_t window, const AttentionBatch& batch, const KvLayer& cache) override;
  at::Tensor Activate(const at::Tensor& x, Activation kind, bool gated) override;

 protected:
  virtual cudaStream_t Stream() = 0;  // the calling thread's
  virtual int Multiprocessors(const at::Device& device) = 0;
  virtual void Check(cudaError_t launched) = 0;  // c10::Error where it is one

 private:
  // The kernels' type for a tensor; nothing where there are none.
  std::optional<CudaDType> TypeOf(const at::Tensor& tensor) const;

  const at::DeviceType kind_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_KERNEL_OPS_H_
