// The fused CPU kernels, called with plain pointers: there is one table for each instruction set, and all are compiled
// from the same *-inl.h sources. No torch here: a kernel file is compiled with instructions that the machine may lack,
// so it must not instantiate inline functions that the linker could share with other files (hence static below).
#ifndef CAUSEWAY_ENGINE_OPS_CPU_KERNELS_H_
#define CAUSEWAY_ENGINE_OPS_CPU_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/kv_format.h"
#include "engine/base/limits.h"  // kBlockTokens, kLinearSlab, kAttentionSplit
#include "engine/ops/cpu/quantized_layout.h"

namespace causeway::cpu {

// kFp16 is an element of weights and of keys and values. What is computed beside it, x and y, is fp32: activations may
// be beyond fp16's range.
enum class Element { kBf16, kFp32, kFp16 };

// Weights are packed in panels of kPanel outputs. A panel is [units][kPanel] 32-bit words. A unit is one input for
// fp32. For bf16 it is two neighbouring inputs, the lower one in the low half of each word, as the processor's dot
// product takes them. For fp16 it is two, too, but [2][kPanel] halves, so that a vector of an input's weights is
// widened as it is loaded. Outputs and inputs beyond the matrix are zero.
inline constexpr int64_t kPanel = 32;
static constexpr int64_t UnitsOf(Element element, int64_t in) { return element == Element::kFp32 ? in : (in + 1) / 2; }
static constexpr int64_t PanelsOf(int64_t out) { return (out + kPanel - 1) / kPanel; }

struct LinearArgs {
  Element element;         // type of the panels, and of x and y
  const void* x;           // [rows, in]
  const uint32_t* panels;  // [PanelsOf(out), UnitsOf(in), kPanel]
  const float* bias;       // [out], or null
  void* y;                 // [rows, out]
  int64_t rows, in, out;   // at least one row
  void* scratch;           // linear_scratch_bytes(args) of memory, 64-byte aligned
};

struct QuantizedLinearArgs {
  Element element;  // of the computation: type of x and y; as kFp16, they are computed with as bf16 is
  QuantizedLayout layout;
  const uint8_t* panels;  // [PanelsOf(out), layout.panel_bytes], 64-byte aligned
  const int32_t* order;   // [in]: the column of x that input i reads; null: i
  const float* bias;      // [out], or null
  const void* x;          // [rows, in]
  void* y;                // [rows, out]
  int64_t rows, in, out;
  void* scratch;  // quantized_scratch_bytes(args) of memory, 64-byte aligned
};

// Packs rows [first, first + count) of a weight into its panels. Outputs beyond the matrix are left as they are.
struct PackArgs {
  Element element;
  const void* rows;   // [count, row_bytes]
  int64_t row_bytes;  // bytes of a row's inputs, without gaps
  int64_t first, count;
  uint32_t* panels;  // [PanelsOf(out), units, kPanel], 64-byte aligned
  int64_t units;
};

struct NormArgs {
  Element element;     // of weight and bias, and of the others
  const void* x;       // [rows, width]
  void* residual;      // [rows, width] or null: becomes residual + x, which is then normed
  const void* weight;  // [width]
  const void* bias;    // [width] or null
  void* y;             // [rows, width]
  int64_t rows, width;
  float eps;
};

// RMS norms, in place, of `groups` runs of `width` columns each.
struct NormColumnsArgs {
  Element element;     // of weight, and of x
  void* x;             // row r is at x + r * stride elements
  const void* weight;  // [width]
  int64_t rows, stride, groups, width;
  float eps;
};

struct ActivateArgs {
  Element element;
  int kind;  // Activation
  bool gated;
  const void* x;  // [rows, gated ? 2 * width : width]
  void* y;        // [rows, width]
  int64_t rows, width;
};

struct RotaryArgs {
  Element element;   // of qkv, and of what is cached without scales
  void* qkv;         // [rows, (heads + 2 * kv_heads) * head_dim]; with scales, its keys are rotated in place
  const float* cos;  // [positions, rotary_dim / 2], or null: no rotation
  const float* sin;
  const int64_t* positions;  // [rows]
  const int64_t* slots;      // [rows]
  void* keys;                // [blocks, kv_heads, kBlockTokens, head_dim], of `element`, or int8 where there are scales
  void* values;
  float* key_scales;  // [blocks, kv_heads, kBlockTokens], or null
  float* value_scales;
  int64_t rows, heads, kv_heads, head_dim, rotary_dim;
};

// Quantizes rows of a weight. Scales are not finite where a row's weights are not.
struct QuantizeArgs {
  Element element;
  const void* x;  // [rows, in]
  void* values;   // [rows, in] bytes: int8, or 0..15
  float* scales;  // [rows, groups]
  int64_t rows, in;
  int64_t group;  // inputs that share a scale (int4)
};

// A piece of work of one attention call: some queries of a sequence, for the heads that share one key-value head.
struct AttentionTask {
  int32_t sequence, kv_head;
  int32_t row, rows;  // rows of the step's batch; the last one is at position `last`
  int32_t last;
  // Keys are taken in ranges of kAttentionSplit. Each range has a softmax of its own, and they are merged in order: so
  // a row's result doesn't depend on how many threads share a sequence.
  int32_t split_first, split_count;
  int32_t partial;  // the slot where its result waits to be merged, or -1: it goes to `out`
};
// The partial results [first, first + count) make the output of one row.
struct AttentionMerge {
  int32_t first, count, row, kv_head;
};

struct AttentionArgs {
  Element element;  // of qkv and out, and of what is cached without scales
  const void* qkv;  // [tokens, qkv_stride]
  int64_t qkv_stride;
  const void* keys;  // [blocks, kv_heads, kBlockTokens, head_dim], of `element`, or int8 where there are scales
  const void* values;
  const float* key_scales;  // [blocks, kv_heads, kBlockTokens], or null
  const float* value_scales;
  void* out;  // [tokens, heads * head_dim]
  const int32_t* block_tables;
  int64_t table_stride;
  int64_t heads, kv_heads, head_dim, window;
  float scale;
  const AttentionTask* tasks;
  int64_t task_count;
  const AttentionMerge* merges;
  int64_t merge_count;
  float* partials;  // PartialFloats() for each task with a partial result
  int64_t row_max;  // queries times heads of a group, in the largest task
  bool parallel;    // whether there is enough work to wake threads for
};
// A partial result has, for each head of the group, its maximum, its sum and head_dim outputs.
static constexpr int64_t PartialFloats(int64_t group, int64_t head_dim) { return group * (head_dim + 2); }

// The arguments of Ops::Route.
struct RouteArgs {
  Element element;
  const void* logits;       // [tokens, experts]
  const float* correction;  // [experts], or null
  int32_t* chosen;          // [tokens, count]
  float* weights;           // [tokens, count]
  int64_t tokens, experts, count;
  bool sigmoid, normalize;
};

// Sums rows of x: y[t] = sum over j of weights[t][j] * x[rows[t][j]], in fp32 and in this order, rounded once.
struct CombineArgs {
  Element element;       // type of x and y
  const void* x;         // [any, width]
  const int32_t* rows;   // [tokens, terms]
  const float* weights;  // [tokens, terms]
  void* y;               // [tokens, width]
  int64_t tokens, terms, width;
};

struct Kernels {
  // Computes `count` linears of one element at once: the threads share the work of all. A row's result depends neither
  // on the other rows nor on the other linears.
  void (*linear)(const LinearArgs* parts, int64_t count);
  int64_t (*linear_scratch_bytes)(const LinearArgs&);  // 0 where none is needed
  // Computes several linears at once: all of one element, kind and zero_points, and the threads share the work. In bf16
  // and fp16 x is quantized to bytes, with a scale for each row and 32 to 128 inputs, unless the weights are fp8. In
  // fp32 it is taken as it is.
  void (*quantized_linear)(const QuantizedLinearArgs* parts, int64_t count);
  int64_t (*quantized_scratch_bytes)(const QuantizedLinearArgs&);
  void (*pack_rows)(const PackArgs&);  // on the calling thread
  void (*rms_norm)(const NormArgs&);
  void (*layer_norm)(const NormArgs&);
  void (*norm_columns)(const NormColumnsArgs&);
  void (*activate)(const ActivateArgs&);
  void (*route)(const RouteArgs&);
  void (*combine)(const CombineArgs&);
  void (*rotary_and_cache)(const RotaryArgs&);
  void (*attention)(const AttentionArgs&);
  void (*quantize_int8)(const QuantizeArgs&);
  void (*quantize_int4)(const QuantizeArgs&);
  // y[i] = f(x[i]), for tests.
  void (*exp)(const float* x, float* y, int64_t n);
  void (*gelu)(const float* x, float* y, int64_t n);
};

// There is one for each instruction set. Call only those that SupportedIsas() lists.
namespace avx512bf16 {
extern const Kernels kKernels;
}
namespace avx512vnni {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace portable {
extern const Kernels kKernels;
}

// Working memory of the calling thread, 64-byte aligned and at least `bytes` long, kept until the thread ends. A caller
// takes all that it needs in one call, since the next call may move the memory.
void* Scratch(size_t bytes);

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_KERNELS_H_
