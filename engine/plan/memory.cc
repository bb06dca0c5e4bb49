#include "engine/plan/memory.h"

#include <algorithm>

namespace causeway {
namespace {

// Upper bounds of what one step holds at once. T rows, e bytes an element; tensors are freed as soon as they are used up.
struct StepShape {
  int64_t rows;      // T
  int64_t sampled;   // rows that reach the head
  int64_t element;   // e
  int64_t hidden;    // one [T, hidden_size]
  int64_t metadata;  // token ids, positions, slots; block tables and lengths

  StepShape(const ModelSpec& spec, const PlanOptions& options)
      : rows(std::max<int64_t>(1, options.max_num_batched_tokens)),
        sampled(std::max<int64_t>(1, std::min(options.max_num_seqs, rows))),
        element(DTypeBytes(options.dtype)),
        hidden(rows * spec.hidden_size * element) {
    const int64_t length = options.max_model_len > 0 ? options.max_model_len : spec.context_max;
    const int64_t blocks = (length + kBlockTokens - 1) / kBlockTokens;
    metadata = rows * 4 * 8 + sampled * (blocks + 8) * 4;
  }
};

// A tenth for rounding up to whole allocations, and 1 MiB for what does not grow with the model.
int64_t WithSlack(int64_t bytes) { return bytes + bytes / 10 + (int64_t{1} << 20); }

// cos and sin of every position, fp32, on each device that holds layers.
int64_t RotaryTableBytes(const ModelSpec& spec, const PlanOptions& options) {
  const int64_t positions = options.max_model_len > 0 ? options.max_model_len : spec.context_max;
  return positions * spec.rope.dim * 4;
}

}  // namespace

int64_t LayerKvBytesPerToken(const ModelSpec& spec, DType dtype) { return 2 * spec.kv_heads * spec.head_dim * DTypeBytes(dtype); }

int64_t LayerActivationBytes(const ModelSpec& spec, const LayerSpec& layer, const PlanOptions& options) {
  const StepShape step(spec, options);
  const int64_t qkv = layer.attention.qkv.out_features();     // (heads + 2 kv_heads) * head_dim
  const int64_t attended = layer.attention.output.in_features;  // heads * head_dim
  const int64_t up = layer.mlp.up.out_features();
  const int64_t activated = layer.mlp.down.in_features;
  // Beside the residual and the normed input: attention's or the MLP's tensors with their output. A gated activation through
  // the reference makes one product more.
  const int64_t attention = step.rows * (qkv + attended) * step.element + step.hidden;
  const int64_t mlp = step.rows * (up + 2 * activated) * step.element + step.hidden;
  // Kernels pack a linear's input, and compute norms, rotation and attention in fp32.
  const int64_t packed = step.rows * std::max({spec.hidden_size, attended, activated}) * step.element;
  const int64_t wide = 2 * step.rows * std::max(spec.hidden_size, qkv) * 4;
  return 2 * step.hidden + std::max(attention, mlp) + packed + wide;
}

int64_t StageActivationBytes(const ModelSpec& spec, const StageShape& shape, const PlanOptions& options) {
  const StepShape step(spec, options);
  int64_t worst = 0;
  if (shape.embeddings) worst = std::max(worst, 2 * step.hidden);
  if (shape.layer_bytes > 0) worst = std::max(worst, shape.layer_bytes);
  if (shape.norm) worst = std::max(worst, 3 * step.hidden + 2 * step.rows * spec.hidden_size * 4);
  if (shape.head) {
    // Logits as computed, and in fp32 twice: the raw ones for logprobs, those that processors have changed for sampling.
    const int64_t row = spec.hidden_size * step.element + spec.vocab_size * (step.element + 2 * 4);
    worst = std::max(worst, 2 * step.hidden + step.sampled * row);
  }
  if (worst == 0) return 0;
  // Handed over: the hidden states that came from the stage before, and those that the next has yet to fetch.
  worst += 2 * step.hidden;
  const int64_t tables = shape.layer_bytes > 0 ? RotaryTableBytes(spec, options) : 0;
  return WithSlack(worst + step.metadata + tables);
}

int64_t ActivationBytes(const ModelSpec& spec, const std::vector<int>& units, const PlanOptions& options) {
  const int layers = static_cast<int>(spec.layers.size());
  StageShape shape;
  for (const int unit : units) {
    if (unit == 0) shape.embeddings = true;
    if (unit == layers + 1) shape.norm = true;
    if (unit == layers + 2) shape.head = true;
    if (unit < 1 || unit > layers) continue;
    shape.layer_bytes = std::max(shape.layer_bytes, LayerActivationBytes(spec, spec.layers[unit - 1], options));
  }
  return StageActivationBytes(spec, shape, options);
}

}  // namespace causeway
