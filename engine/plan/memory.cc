#include "engine/plan/memory.h"

#include <algorithm>

namespace causeway {
namespace {

// What operations hold beside their inputs and results depends on who computes them.
enum class OpsKind {
  kFused,      // the CPU's kernels: linears copy their input, attention may be cut along the context
  kCuda,       // kernels, but experts and quantized linears as the reference
  kReference,  // fp32 throughout, and a chunk of attention's scores
};

OpsKind OpsOf(const PlanOptions& options, DeviceKind device) {
  if (options.reference_ops) return OpsKind::kReference;
  if (!ComputesOnCpu(device)) return OpsKind::kCuda;
  return OpsKind::kFused;
}

// Of activations. The CPU's kernels compute in fp32 beside weights of fp16.
int64_t ElementBytes(const PlanOptions& options, OpsKind ops) {
  return DTypeBytes(ops == OpsKind::kFused && options.dtype == DType::kF16 ? DType::kF32 : options.dtype);
}

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kFloat = 4;
constexpr int64_t kCudaPartialRows = 4096;  // single queries of one head group that CUDA's cuts make, at most
constexpr int64_t kDequantizedBytes = 9;    // of a weight: unpacked, in fp32 and in the computation's dtype
constexpr int64_t kDeviceSampleBytes = 64;  // a logit's processed copies, sorted ones, their order and sums in fp64

struct Step {
  int64_t rows;     // T
  int64_t sampled;  // R: rows that reach the head
  int64_t context;
  int64_t element;
  int64_t hidden;  // one [T, hidden_size]
  OpsKind ops;
  bool bytes;  // whether fused linears of whole numbers quantize their input

  Step(const ModelSpec& spec, const PlanOptions& options, DeviceKind device)
      : rows(std::max<int64_t>(1, options.max_num_batched_tokens)),
        sampled(std::max<int64_t>(1, std::min(options.max_num_seqs, rows))),
        context(options.max_model_len > 0 ? options.max_model_len : spec.context_max),
        element(ElementBytes(options, OpsOf(options, device))),
        hidden(rows * spec.hidden_size * element),
        ops(OpsOf(options, device)),
        bytes(options.dtype != DType::kF32) {}

  // Bound of a fused linear's copy of its input, of `copies` rows for each row. Words of one input or two; beside whole
  // numbers, unless it is computed in fp32, a byte an input and 8 for a chunk of 32 or more.
  int64_t Packed(const LinearSpec& linear, int64_t copies = 1) const {
    if (ops != OpsKind::kFused) return 0;
    const bool whole = linear.format.kind == WeightKind::kInt8 || linear.format.kind == WeightKind::kInt4;
    const int64_t slab = 2 * kLinearSlab, inputs = (linear.in_features + slab - 1) / slab * slab;
    return copies * rows * inputs * (whole && bytes ? 2 : kFloat);
  }
  // Where quantized weights are dequantized (engine/ops/compact_weight.cc; the fused kernels copy their input, as
  // others do): a piece of the weight in the forms it takes, a piece of the result, and the input in its order.
  int64_t Dequantized(const LinearSpec& linear) const {
    if (linear.format.kind == WeightKind::kFloat || ops == OpsKind::kFused) return 0;
    const int64_t in = linear.in_features,
                  outputs = std::min(linear.out_features(), std::max(kDequantizedOutputs, kDequantizedElements / in));
    return outputs * in * kDequantizedBytes + rows * outputs * element +
           (linear.format.reordered ? rows * in * element : 0);
  }
  // Token ids, positions, slots and selected rows; block tables and lengths.
  int64_t metadata() const { return rows * 4 * 8 + sampled * (BlocksFor(context) + 8) * 4; }
  // Beside a norm's input and result.
  int64_t NormBytes(int64_t width) const { return ops == OpsKind::kReference ? 3 * rows * width * kFloat : 0; }
};

bool HoldsScores(const ModelSpec& spec, OpsKind ops) {
  return ops == OpsKind::kReference || (ops == OpsKind::kCuda && spec.head_dim > kCudaHeadDimMax);
}

int64_t AttentionScratch(const ModelSpec& spec, const Step& step, const PlanOptions& options, int64_t attended) {
  const int64_t partial = (spec.heads / std::max<int64_t>(1, spec.kv_heads)) * (spec.head_dim + 2) * kFloat;
  if (!HoldsScores(spec, step.ops)) {
    if (step.ops == OpsKind::kCuda) return kCudaPartialRows * partial;
    const int64_t threads = options.cpu_threads;
    const int64_t tasks = threads > 1 ? std::min(step.sampled * spec.kv_heads, kAttentionTasksPerThread * threads) : 0;
    return tasks * (step.context / kAttentionSplit + 1) * partial;
  }
  const int64_t gathered = 2 * spec.kv_heads * step.context * spec.head_dim * (kFloat + step.element);
  const int64_t queries = std::min(kReferenceQueryChunk, step.rows);
  const int64_t scores = queries * step.context * (2 * spec.heads * kFloat + 3) + 3 * queries * attended * kFloat;
  return gathered + scores;
}

// The most that a feed-forward part holds at once beside its input.
int64_t MlpBytes(const MlpSpec& mlp, const Step& step) {
  const int64_t row = step.rows * step.element, width = mlp.down.in_features;
  const int64_t up = row * mlp.up.out_features();  // [T, intermediate], twice that when gated
  const int64_t activated = row * width;
  const int64_t activation = step.ops == OpsKind::kReference ? 4 * step.rows * width * kFloat : 0;
  return std::max({up + step.Packed(mlp.up) + step.Dequantized(mlp.up), up + activated + activation,
                   activated + step.hidden + step.Packed(mlp.down) + step.Dequantized(mlp.down)});
}

// Of a mixture: a row is there once for each expert that it goes to, whoever they are. Experts that a step leaves idle
// hold nothing, so that their number counts for the router alone.
int64_t MoeBytes(const MoeSpec& moe, const Step& step) {
  const MlpSpec& expert = moe.experts.front();
  const int64_t experts = moe.router.out_features(), chosen = moe.rule.experts_per_token;
  const int64_t hidden = moe.router.in_features, width = expert.down.in_features;
  const int64_t logits = step.rows * experts * step.element, routing = step.rows * chosen * 2 * kFloat;
  const int64_t gathered = chosen * step.hidden;  // [T * chosen, hidden], by expert: what goes in, and what comes out
  if (step.ops == OpsKind::kFused) {
    const int64_t row = chosen * step.rows * step.element;
    const int64_t up = row * expert.up.out_features(), activated = row * width;
    int64_t most = std::max({gathered + up + step.Packed(expert.up, chosen), up + activated,
                             activated + gathered + step.Packed(expert.down, chosen)});
    // Fetched one after the other, each of all tokens at most.
    most = std::max(most, gathered + step.hidden + MlpBytes(expert, step));
    return std::max(logits + step.Packed(moe.router), step.hidden + routing + most);
  }
  // All experts' scores in fp32, then sorted with their indices. One expert after the other, each of all tokens at
  // most. What came out in fp32, and its sum.
  const int64_t scores = step.rows * experts * (4 * kFloat + 2 * 8);
  const int64_t order = 6 * step.rows * chosen * 8;
  const int64_t most =
      std::max(2 * gathered + MlpBytes(expert, step), gathered + (chosen + 2) * step.rows * hidden * kFloat);
  return std::max(logits + scores, routing + order + most);
}

// For rounding up to whole allocations and the gaps between them: a tenth, and 1 MiB that does not grow with the model.
int64_t WithSlack(int64_t bytes) { return bytes + bytes / 10 + kMiB; }

// Of a module's tensors of up to 1 MiB, in blocks of 512 bytes.
int64_t SmallBytes(const Module& module) {
  constexpr int64_t kBlock = 512;
  int64_t small = 0;
  for (const Parameter& parameter : module.parameters) {
    if (parameter.bytes() <= kMiB) small += (parameter.bytes() + kBlock - 1) / kBlock * kBlock;
  }
  for (const Module& child : module.children) small += SmallBytes(child);
  return small;
}

}  // namespace

int64_t LayerKvBytesPerToken(const ModelSpec& spec, const PlanOptions& options) {
  const DType dtype = KvDType(options);
  const int64_t scale = dtype == DType::kI8 ? kFloat : 0;  // of a key or value of one head
  return 2 * spec.kv_heads * (spec.head_dim * DTypeBytes(dtype) + scale);
}

int64_t LayerActivationBytes(const ModelSpec& spec, const LayerSpec& layer, const PlanOptions& options,
                             DeviceKind kind) {
  const Step step(spec, options, kind);
  const bool reference = step.ops == OpsKind::kReference;
  const int64_t row = step.rows * step.element;
  const int64_t attended_width = layer.attention.output.in_features;
  const int64_t qkv = row * layer.attention.qkv.out_features();  // [T, (heads + 2 kv_heads) * head_dim]
  const int64_t attended = row * attended_width;                 // [T, heads * head_dim]
  // In fp32: both halves of the queries, their products, and the result in both types.
  const int64_t rotary =
      reference && spec.rope.dim > 0 ? step.rows * (4 * attended_width + spec.rope.dim) * kFloat + 2 * attended : 0;
  // Rows in fp32 and their integers, once for keys and once for values.
  const int64_t quantizing =
      reference && KvDType(options) == DType::kI8 ? step.rows * spec.kv_heads * spec.head_dim * (3 * kFloat + 1) : 0;

  // All the while: the residual, and the normed input or what is to be added to the residual.
  const int64_t peaks[] = {
      step.hidden + step.NormBytes(spec.hidden_size),
      qkv + step.Packed(layer.attention.qkv) + step.Dequantized(layer.attention.qkv),
      qkv + rotary + quantizing,
      qkv + attended + AttentionScratch(spec, step, options, attended_width),
      attended + step.hidden + step.Packed(layer.attention.output) + step.Dequantized(layer.attention.output),
      layer.moe.has_value() ? MoeBytes(*layer.moe, step) : MlpBytes(layer.mlp, step),
  };
  return 2 * step.hidden + *std::max_element(std::begin(peaks), std::end(peaks));
}

int64_t StageActivationBytes(const ModelSpec& spec, const StageShape& shape, const PlanOptions& options,
                             DeviceKind kind) {
  const Step step(spec, options, kind);
  int64_t worst = 0;
  if (shape.embeddings) worst = std::max(worst, 2 * step.hidden);
  worst = std::max(worst, shape.layer_bytes);
  // Hidden states of all rows, of those selected, and of these normed.
  const int64_t selected = step.sampled * spec.hidden_size * step.element;
  if (shape.norm || shape.head)
    worst = std::max(worst, 2 * step.hidden + 3 * selected + step.NormBytes(spec.hidden_size));
  if (shape.head) {
    // A rank's, before rank 0 has those of all.
    const int64_t words = spec.head.out_features(),
                  own_logits = words < spec.vocab_size ? step.sampled * words * step.element : 0;
    const int64_t sampling = ComputesOnCpu(kind) ? 0 : kDeviceSampleBytes;  // whoever computed the logits
    worst = std::max(worst, 2 * step.hidden + 2 * selected + step.Packed(spec.head) + step.Dequantized(spec.head) +
                                step.sampled * spec.vocab_size * (step.element + sampling) + own_logits);
  }
  if (worst == 0) return 0;
  // cos and sin of every position, fp32.
  const int64_t tables = shape.layer_bytes > 0 ? step.context * spec.rope.dim * kFloat : 0;
  return WithSlack(worst + step.metadata() + tables);
}

int64_t SmallWeightBytes(const ModelSpec& spec) { return 2 * SmallBytes(spec.modules) + 2 * kMiB; }

bool HoldsScores(const ModelSpec& spec, const PlanOptions& options, DeviceKind kind) {
  return HoldsScores(spec, OpsOf(options, kind));
}

int64_t HandoffBytes(const ModelSpec& spec, const PlanOptions& options, int devices, DeviceKind kind) {
  return devices < 2 ? 0 : devices * Step(spec, options, kind).hidden;
}

int64_t ActivationBytes(const ModelSpec& spec, const std::vector<int>& units, const PlanOptions& options,
                        DeviceKind kind) {
  const Units all = UnitsOf(spec);
  StageShape shape;
  for (const int unit : units) {
    shape.embeddings |= unit == Units::kEmbeddings;
    shape.norm |= unit == all.norm();
    shape.head |= unit == all.head();
    if (!all.is_layer(unit)) continue;
    const LayerSpec& layer = spec.layers[Units::LayerOf(unit)];
    shape.layer_bytes = std::max(shape.layer_bytes, LayerActivationBytes(spec, layer, options, kind));
  }
  return StageActivationBytes(spec, shape, options, kind);
}

}  // namespace causeway
