#include "engine/ops/cpu/linear_runs.h"

#include <algorithm>
#include <cstring>
#include <typeinfo>

#include <ATen/ops/empty.h>

#include "engine/ops/cpu/packed_weight.h"
#include "engine/ops/cpu/quantized_weight.h"
#include "engine/ops/rehearsal.h"

namespace causeway::cpu {
namespace {

// Sets what only one kind of weight has.
void Describe(const PackedWeight&, LinearArgs&) {}
void Describe(const QuantizedWeight& weight, QuantizedLinearArgs& args) {
  args.layout = weight.layout();
  args.order = weight.order();
}
bool Alike(const PackedWeight& a, const PackedWeight& b) { return a.dtype() == b.dtype(); }
bool Alike(const QuantizedWeight& a, const QuantizedWeight& b) {
  return a.dtype() == b.dtype() && a.format() == b.format();
}

// Leaves as many rows to compute as are rehearsed, over all parts together; the other rows of y become zeros.
template <class Args>
void CutForRehearsal(std::vector<Args>& parts, int64_t element) {
  int64_t all = 0;
  for (const Args& args : parts) all += args.rows;
  int64_t left = Rehearsal::Rows(all);
  for (Args& args : parts) {
    const int64_t rows = std::min(args.rows, left), row_bytes = args.out * element;
    std::memset(static_cast<char*>(args.y) + rows * row_bytes, 0, (args.rows - rows) * row_bytes);
    args.rows = rows;
    left -= rows;
  }
  parts.erase(std::remove_if(parts.begin(), parts.end(), [](const Args& args) { return args.rows == 0; }), parts.end());
}

// Returns false, and does nothing, unless all are a `Weight` of one dtype that is computed with in x's, and of one
// format.
template <class Weight, class Args>
bool RunAll(const at::Tensor& x, at::Tensor& y, const std::vector<LinearRun>& runs,
            int64_t (*scratch_bytes_of)(const Args&), void (*kernel)(const Args*, int64_t)) {
  thread_local std::vector<Args> parts;  // kept for its memory
  parts.clear();
  const Weight* one = nullptr;
  const int64_t element = x.element_size();
  int64_t scratch_bytes = 0;
  for (const LinearRun& run : runs) {
    if (typeid(*run.weight) != typeid(Weight)) return false;
    const auto* weight = static_cast<const Weight*>(run.weight);
    if (weight->activations() != x.scalar_type() || (one != nullptr && !Alike(*one, *weight))) return false;
    one = weight;
    if (run.rows == 0) continue;
    Args& args = parts.emplace_back();
    Describe(*weight, args);
    args.element = weight->element();
    args.panels = weight->panels();
    args.bias = weight->bias();
    args.rows = run.rows;
    args.in = weight->in_features();
    args.out = weight->out_features();
    args.x = static_cast<const char*>(x.const_data_ptr()) + run.first * args.in * element;
    args.y = static_cast<char*>(y.mutable_data_ptr()) + run.first * args.out * element;
    scratch_bytes += scratch_bytes_of(args);
  }
  if (parts.empty()) return true;
  at::Tensor scratch;  // a single row needs none
  if (scratch_bytes > 0) scratch = at::empty({scratch_bytes}, x.options().dtype(at::kByte));
  char* next = scratch_bytes > 0 ? static_cast<char*>(scratch.mutable_data_ptr()) : nullptr;
  for (Args& args : parts) {
    args.scratch = next;
    next += scratch_bytes_of(args);
  }
  if (Rehearsal::Now()) CutForRehearsal(parts, element);
  kernel(parts.data(), static_cast<int64_t>(parts.size()));
  return true;
}

}  // namespace

bool RunTogether(const Kernels& kernels, const at::Tensor& x, at::Tensor& y, const std::vector<LinearRun>& runs) {
  return RunAll<PackedWeight, LinearArgs>(x, y, runs, kernels.linear_scratch_bytes, kernels.linear) ||
         RunAll<QuantizedWeight, QuantizedLinearArgs>(x, y, runs, kernels.quantized_scratch_bytes,
                                                      kernels.quantized_linear);
}

}  // namespace causeway::cpu
