// The operations a model is made of, behind one interface with an implementation per kind of device:
// ReferenceOps (ATen; CPU and CUDA alike), CpuOps (fused kernels) and, in the CUDA library, CudaOps.
#ifndef CAUSEWAY_ENGINE_OPS_OPS_H_
#define CAUSEWAY_ENGINE_OPS_OPS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "engine/base/activation.h"
#include "engine/base/kv_format.h"
#include "engine/base/limits.h"  // kBlockTokens
#include "engine/base/routing.h"
#include "engine/base/weight_format.h"
#include "engine/sampling/sampler.h"  // SampleRow, SampleOutput

namespace causeway {

// Rows of a quantized weight (weight_format.h), one value a byte, as loaders hand them over and Quantize makes them.
struct QuantizedRows {
  at::Tensor values;  // [n, in]: kInt8 int8; kInt4 uint8, 0..15; kFp8 uint8, the bits of e4m3fn
  at::Tensor scales;  // fp32 [n, groups]; of kInt4 exact in fp16
  at::Tensor zeros;   // uint8 [n, groups], 0..15; undefined without zero points
};

// Tokens that a device was told to choose, and that the host learns of later.
struct StartedSample {
  at::Tensor tokens;                  // int64 [rows], where the logits are
  at::Tensor outputs;                 // there, too: what ReadSample needs on the host
  std::vector<int32_t> top_logprobs;  // of each row; -1 without logprobs
};
// What Ops::Sample gives, once sample.outputs are on the host.
std::vector<SampleOutput> ReadSample(const StartedSample& sample, const at::Tensor& outputs);

// A linear's weight in the layout that its device computes from, and its bias. Ops::NewLinear makes it, the setters
// fill it. Loader threads call the setters: at once for different weights, and for one weight as far as its setters
// say. The device's thread calls the rest. Errors are c10::Error.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  virtual int64_t out_features() const = 0;
  virtual int64_t in_features() const = 0;
  virtual int64_t bytes() const = 0;                      // of the weight and bias as held
  virtual at::Device device() const { return at::kCPU; }  // where it lies and is computed from
  // Whether Tensors() are rows [out, in] and, where there is one, the bias [out], as checkpoints store those that are
  // not quantized.
  virtual bool as_stored() const { return false; }
  // All that it holds. Offload points their storages at other memory, so whoever computes asks for addresses anew each
  // time.
  virtual std::vector<at::Tensor> Tensors() const = 0;

  // Rows [first, first + n) from `rows` [n, in], a CPU tensor of any floating dtype (converted, or quantized by
  // Quantize(), whose errors it has). Calls of this and of SetQuantizedRows may overlap in time if no run of 64 rows
  // (0 to 63, 64 to 127, ...) has rows of both.
  virtual void SetRows(int64_t first, const at::Tensor& rows) = 0;
  // The same from rows that a checkpoint stores quantized; values, scales and zeros are kept as they are.
  virtual void SetQuantizedRows(int64_t /*first*/, const QuantizedRows&) {
    TORCH_CHECK(false, "quantized rows for a weight that is not quantized");
  }
  // Input i of a reordered weight reads column order[i] of x (int32 [in], a permutation; GPTQ's act-order). Before,
  // column i. While this runs nothing else is called for the weight.
  virtual void SetInputOrder(const at::Tensor& /*order*/) {
    TORCH_CHECK(false, "an input order for a weight that is not quantized");
  }
  // The bias of outputs [first, first + n). Calls for different outputs may overlap, as may those that set rows.
  virtual void SetBias(int64_t first, const at::Tensor& bias) = 0;

  // x [tokens, in] -> [tokens, out]. A weight that lies in CPU memory beside a device with memory of its own is
  // computed on the CPU: the rows go there and come back, and the call waits for them.
  virtual at::Tensor Forward(const at::Tensor& x) const = 0;
  // Rows of the weight as embeddings: ids int64 [tokens] -> [tokens, in]. Lets a tied head and embedding share memory.
  virtual at::Tensor Lookup(const at::Tensor& ids) const = 0;
};

// Which experts each token goes to, and how much each counts.
struct Routing {
  at::Tensor experts;  // int32 [tokens, experts_per_token]
  at::Tensor weights;  // fp32, the same shape
};
struct ExpertWeights {
  const LinearWeight* up = nullptr;  // gated: gate's outputs, then up's
  const LinearWeight* down = nullptr;
};

// Brings experts that are not on the device when they are computed from.
class ExpertFetcher {
 public:
  virtual ~ExpertFetcher() = default;
  struct Use {
    int expert = 0;
    int64_t rows = 0;  // of tokens that go to it
  };
  // Which experts will be computed from, in this order.
  virtual void Begin(const std::vector<Use>& uses) = 0;
  // What to compute from until Release: on the device, or in CPU memory, where it is computed.
  virtual ExpertWeights Acquire(int expert) = 0;
  virtual void Release(int expert) = 0;
};
// Acquires while it lives.
class FetchedExpert {
 public:
  FetchedExpert(ExpertFetcher& fetcher, int expert)
      : weights(fetcher.Acquire(expert)), fetcher_(fetcher), expert_(expert) {}
  ~FetchedExpert() { fetcher_.Release(expert_); }
  FetchedExpert(const FetchedExpert&) = delete;
  FetchedExpert& operator=(const FetchedExpert&) = delete;

  const ExpertWeights weights;

 private:
  ExpertFetcher& fetcher_;
  const int expert_;
};

// Where the rows of one step's ragged batch belong. Tensors are on the device; the vectors are their copies on the
// host, which kernels that loop over sequences on the host read.
struct AttentionBatch {
  at::Tensor positions;     // int64 [tokens]
  at::Tensor slots;         // int64 [tokens]: block * kBlockTokens + offset, where a row's key and value are written
  at::Tensor block_tables;  // int32 [sequences, blocks of the longest]; padded with 0
  at::Tensor query_start;   // int32 [sequences + 1]: rows of sequence s are [query_start[s], query_start[s + 1])
  at::Tensor context_lens;  // int32 [sequences]: tokens attended by the last row, this step's included
  std::vector<int32_t> query_start_host, context_lens_host;
  int64_t context_max = 0;
};

// The KV cache of one layer, keys and values each: [blocks, kv_heads, kBlockTokens, head_dim] of the computation's
// dtype, or int8 with a scale for each token and head: what is cached is the integer times the scale.
struct KvLayer {
  at::Tensor keys, values;
  // fp32 [blocks, kv_heads, kBlockTokens] with int8, else undefined. fp32: a key's largest value may lie anywhere in
  // bf16's range, where fp16 overflows or loses digits, and two bytes more a head are little beside head_dim of them.
  at::Tensor key_scales, value_scales;
  bool quantized() const { return key_scales.defined(); }
};

// Called by one thread at a time per device (its worker), except NewLinear, which any thread calls. Shapes: tokens is
// the number of rows of the step. Tensors are contiguous, on the device, of the computation's dtype (bf16, fp16 or
// fp32; but see Activations) unless said otherwise. Results are new tensors. Errors are programmer's errors (CHECK) or
// c10::Error.
class Ops {
 public:
  virtual ~Ops() = default;

  // What is computed beside weights, keys and values of `dtype`: x, residuals, qkv and results. It is the same dtype,
  // but for CpuOps, which computes in fp32 beside fp16.
  virtual at::ScalarType Activations(at::ScalarType dtype) const { return dtype; }

  // An unfilled weight of out x in on `device`, computed with in `dtype`. It may outlive this.
  virtual std::unique_ptr<LinearWeight> NewLinear(int64_t out, int64_t in, bool bias, at::ScalarType dtype,
                                                  at::Device device, const WeightFormat& format = {}) = 0;
  // bias may be undefined. With `residual` defined: residual += x in place first, and the norm is of the sum.
  virtual at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) = 0;
  virtual at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                               const at::Tensor& bias, double eps) = 0;

  // qkv [tokens, (heads + 2 kv_heads) * head_dim]: rotates the first rotary_dim dimensions of each query (in place) and
  // key, pairs (i, i + rotary_dim / 2), by the tables cos and sin (fp32 [positions, rotary_dim / 2], undefined: no
  // rotation) at batch.positions, and writes keys and values to the cache at batch.slots. What is left in qkv's keys
  // and values is not to be read.
  virtual void RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                              int64_t kv_heads, int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) = 0;

  // Causal attention of the queries in qkv (its first heads * head_dim columns) over the paged cache, which already
  // holds this step's rows -> [tokens, heads * head_dim]. window > 0: a row attends to itself and the window - 1 before
  // it.
  virtual at::Tensor PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                    double scale, int64_t window, const AttentionBatch& batch,
                                    const KvLayer& cache) = 0;

  // In place: RMS norms of `groups` neighbouring runs of `width` columns of x [tokens, columns], from column `first`
  // on; weight [width] for each of them. The normed value is rounded to x's type before it meets the weight, as the
  // field's norms do.
  virtual void NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                           double eps) = 0;

  // NormColumns of runs that lie on several ranks, in two halves. The sums of squares of neighbouring runs of columns
  // of x, from the first column on, `widths` wide each: fp32 [tokens, runs].
  virtual at::Tensor SquareSums(const at::Tensor& x, const std::vector<int64_t>& widths) = 0;
  // In place: norms the columns of x from `first` on, as many as `weight` has, where column `run` of `squares` has the
  // sums over all ranks, of `all` columns.
  virtual void ScaleColumns(at::Tensor& x, int64_t first, const at::Tensor& weight, const at::Tensor& squares,
                            int64_t run, int64_t all, double eps) = 0;

  // logits [tokens, experts]; correction fp32 [experts] or undefined. Of equal scores the lower expert goes first.
  virtual Routing Route(const at::Tensor& logits, const at::Tensor& correction, const RoutingRule& rule) = 0;
  // The sum of the chosen experts' gated MLPs, weighted: x [tokens, hidden] -> [tokens, hidden]. Experts that no token
  // chose are not read. `counts`, where not null, becomes the tokens that each expert got. CpuOps: a token's result
  // does not depend on the tokens beside it. With a fetcher, one expert after the other is asked for and computed from;
  // results are the same.
  virtual at::Tensor Experts(const at::Tensor& x, const Routing& routing, const std::vector<ExpertWeights>& experts,
                             Activation activation, std::vector<int32_t>* counts, ExpertFetcher* fetcher = nullptr) = 0;

  // x += y, of the same shape.
  virtual void Add(at::Tensor& x, const at::Tensor& y) = 0;
  // Rows of x [tokens, width] become zeros; `rows` int64 [n].
  virtual void ZeroRows(at::Tensor& x, const at::Tensor& rows) = 0;
  // Those rows of x [tokens, width], in the order of `rows`, int64 [n] -> [n, width].
  virtual at::Tensor SelectRows(const at::Tensor& x, const at::Tensor& rows) = 0;

  // gated: x [tokens, 2n] -> act(x[:, :n]) * x[:, n:]; else act(x).
  virtual at::Tensor Activate(const at::Tensor& x, Activation kind, bool gated) = 0;

  // logits [rows, vocab] of the computation's dtype; rows.size() == rows. Where they lie in host memory each is read
  // once. An output says whether its row was finite. The order of processors is allowed, masked, logit_bias,
  // repetition, frequency, presence, temperature, top_k, top_p, min_p, typical_p, sample.
  virtual std::vector<SampleOutput> Sample(const at::Tensor& logits, const std::vector<SampleRow>& rows) = 0;
  // The same, but does not wait for the logits: the host may go on while the device chooses. What rows point to may go
  // once this returns.
  virtual StartedSample StartSample(const at::Tensor& logits, const std::vector<SampleRow>& rows) = 0;
  // to[to_index[i]] = from[from_index[i]]: all int64 of one dimension, no to_index twice.
  virtual void CopyTokens(at::Tensor& to, const at::Tensor& to_index, const at::Tensor& from,
                          const at::Tensor& from_index) = 0;
  // The `count` likeliest tokens of each row of a share of the vocabulary, whose first token is `first`. logits [rows,
  // share] -> fp32 [rows, CandidateColumns(count)]: whether the row is finite, the ids (the bits of int32, -1 where
  // there are no more) and the logits. SampleAmong (engine/ops/candidates.h) chooses among those of all shares.
  virtual at::Tensor Candidates(const at::Tensor& logits, int64_t count, int64_t first) = 0;
};

// The ATen implementation, on any device.
std::unique_ptr<Ops> MakeReferenceOps();
// Fused CPU kernels, the best that this processor runs; ops it does not fuse (or dtypes) go to the reference.
std::unique_ptr<Ops> MakeCpuOps();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_OPS_H_
