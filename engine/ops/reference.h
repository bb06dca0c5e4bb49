// Ops over ATen, for the CPU and CUDA alike. The fused kernels are checked against it, and it runs where there are
// none. Callers hold an at::InferenceMode (or NoGradMode) guard. Only Sample and Experts wait for a CUDA device, each
// once.
#ifndef CAUSEWAY_ENGINE_OPS_REFERENCE_H_
#define CAUSEWAY_ENGINE_OPS_REFERENCE_H_

#include <memory>
#include <vector>

#include "engine/ops/ops.h"

namespace causeway {

class ReferenceOps : public Ops {
 public:
  std::unique_ptr<LinearWeight> NewLinear(int64_t out, int64_t in, bool bias, at::ScalarType dtype, at::Device device,
                                          const WeightFormat& format = {}) override;
  at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) override;
  at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                       const at::Tensor& bias, double eps) override;
  void NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                   double eps) override;
  at::Tensor SquareSums(const at::Tensor& x, const std::vector<int64_t>& widths) override;
  void ScaleColumns(at::Tensor& x, int64_t first, const at::Tensor& weight, const at::Tensor& squares, int64_t run,
                    int64_t all, double eps) override;
  void RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) override;
  at::Tensor PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                            int64_t window, const AttentionBatch& batch, const KvLayer& cache) override;
  Routing Route(const at::Tensor& logits, const at::Tensor& correction, const RoutingRule& rule) override;
  at::Tensor Experts(const at::Tensor& x, const Routing& routing, const std::vector<ExpertWeights>& experts,
                     Activation activation, std::vector<int32_t>* counts, ExpertFetcher* fetcher = nullptr) override;
  void Add(at::Tensor& x, const at::Tensor& y) override;
  void ZeroRows(at::Tensor& x, const at::Tensor& rows) override;
  at::Tensor SelectRows(const at::Tensor& x, const at::Tensor& rows) override;
  at::Tensor Activate(const at::Tensor& x, Activation kind, bool gated) override;
  std::vector<SampleOutput> Sample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override;
  StartedSample StartSample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override;
  void CopyTokens(at::Tensor& to, const at::Tensor& to_index, const at::Tensor& from,
                  const at::Tensor& from_index) override;
  at::Tensor Candidates(const at::Tensor& logits, int64_t count, int64_t first) override;
};

// Chooses for the rows of CPU logits by SampleOne. The calling thread's team shares the rows.
std::vector<SampleOutput> SampleOnHost(const at::Tensor& logits, const std::vector<SampleRow>& rows);
// Makes the same choices on the device of `logits`, with one copy back at the end.
std::vector<SampleOutput> SampleOnDevice(const at::Tensor& logits, const std::vector<SampleRow>& rows);
// Ops::Candidates of CPU logits, whose rows the calling thread's team shares, and of others.
at::Tensor CandidatesOnHost(const at::Tensor& logits, int64_t count, int64_t first);
at::Tensor CandidatesOnDevice(const at::Tensor& logits, int64_t count, int64_t first);
// Writes a row of contiguous CPU logits as floats. Returns whether all are finite.
bool WidenRow(const at::Tensor& logits, int64_t row, float* to);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_REFERENCE_H_
