// The memory of tensors, as the kernels read it.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_TENSOR_DATA_H_
#define CAUSEWAY_ENGINE_OPS_CPU_TENSOR_DATA_H_

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "engine/ops/cpu/kernels.h"
#include "engine/threads/for_each.h"
#include "engine/threads/team.h"

namespace causeway::cpu {

// Whether the kernels compute with weights of this dtype.
inline bool HasElement(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf;
}
inline Element ElementOf(at::ScalarType dtype) {
  return dtype == at::kFloat ? Element::kFp32 : dtype == at::kHalf ? Element::kFp16 : Element::kBf16;
}
// What the kernels compute beside weights, keys and values of this dtype: see Element.
inline at::ScalarType ActivationsBeside(at::ScalarType dtype) { return dtype == at::kHalf ? at::kFloat : dtype; }

inline const void* Data(const at::Tensor& t, const char* name, at::ScalarType dtype) {
  TORCH_CHECK(t.is_cpu() && t.is_contiguous() && t.scalar_type() == dtype, name, " must be a contiguous ", dtype,
              " tensor on the CPU, not ", t.toString(), " of shape ", t.sizes(), " and strides ", t.strides());
  return t.const_data_ptr();
}
inline void* MutableData(const at::Tensor& t, const char* name, at::ScalarType dtype) {
  return const_cast<void*>(Data(t, name, dtype));
}

// Calls copy(r) for each of `rows` rows, on all threads where they are more bytes than `bytes_alone`.
template <class Copy>
void ForRows(int64_t rows, int64_t row_bytes, int64_t bytes_alone, const Copy& copy) {
  const int64_t pieces = rows * row_bytes <= bytes_alone ? 1 : std::min<int64_t>(rows, 8 * TeamThreads());
  ForEach(pieces, [&](int64_t piece) {
    for (int64_t r = rows * piece / pieces; r < rows * (piece + 1) / pieces; ++r) copy(r);
  });
}

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_TENSOR_DATA_H_
