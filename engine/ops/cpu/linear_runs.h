// Several linears in one call of a kernel, which shares out their work as it goes.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_LINEAR_RUNS_H_
#define CAUSEWAY_ENGINE_OPS_CPU_LINEAR_RUNS_H_

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

namespace causeway::cpu {

// Rows [first, first + rows) of x through `weight` make the same rows of y.
struct LinearRun {
  const LinearWeight* weight;
  int64_t first, rows;
};

// x and y are contiguous, of one dtype, and as wide as the weights have it. Returns false, and does nothing, unless the
// weights are of one kind and format that a kernel computes with in x's dtype.
bool RunTogether(const Kernels& kernels, const at::Tensor& x, at::Tensor& y, const std::vector<LinearRun>& runs);

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_LINEAR_RUNS_H_
