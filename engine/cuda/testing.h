// For tests that run kernels on the CPU: tensors in memory that is watched, and how far results may be off.
#ifndef CAUSEWAY_ENGINE_CUDA_TESTING_H_
#define CAUSEWAY_ENGINE_CUDA_TESTING_H_

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/allclose.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include "engine/cuda/cuda_dtype.h"
#include "tests/support/cuda_emulator/guarded_memory.h"

namespace causeway::testing {

inline const std::vector<at::ScalarType> kKernelTypes = {at::kFloat, at::kBFloat16, at::kHalf};

inline CudaDType KernelType(at::ScalarType type) {
  return type == at::kFloat ? CudaDType::kF32 : type == at::kBFloat16 ? CudaDType::kBF16 : CudaDType::kF16;
}

// Tensors whose surroundings a kernel must not touch. They live as long as this.
class WatchedTensors {
 public:
  // A copy that a kernel may only read. It begins `shift` numbers behind a multiple of 16 bytes.
  at::Tensor Input(const char* name, const at::Tensor& tensor, int64_t shift = 0) {
    at::Tensor copy = Output(name, tensor, shift);
    if (copy.defined()) memory_.back()->MakeReadOnly();
    return copy;
  }
  // A copy that it may write to as well.
  at::Tensor Output(const char* name, const at::Tensor& tensor, int64_t shift = 0) {
    if (!tensor.defined()) return tensor;
    const at::Tensor source = tensor.contiguous();
    const size_t skipped = shift * source.element_size();
    memory_.push_back(std::make_unique<cuda_emulator::GuardedMemory>(name, skipped + source.nbytes()));
    char* data = memory_.back()->data<char>() + skipped;
    if (source.nbytes() > 0) std::memcpy(data, source.const_data_ptr(), source.nbytes());
    return at::from_blob(data, source.sizes(), source.options());
  }

 private:
  std::vector<std::unique_ptr<cuda_emulator::GuardedMemory>> memory_;
};

// Whether all numbers are the same but for the last place, where sums may have been added up in another order, and few
// differ at all. `blur`: how far they may be off beside.
inline ::testing::AssertionResult SameButForTheLastPlace(const at::Tensor& got, const at::Tensor& expected,
                                                         double blur = 1e-30) {
  const at::ScalarType type = expected.scalar_type();
  if (got.sizes() != expected.sizes() || got.scalar_type() != type)
    return ::testing::AssertionFailure() << got.toString() << " " << got.sizes() << " for " << expected.sizes();
  const double place = type == at::kFloat ? 4e-6 : type == at::kHalf ? 1. / 1024 : 1. / 128;
  const at::Tensor a = got.to(at::kDouble), b = expected.to(at::kDouble);
  if (!at::allclose(a, b, place, /*atol=*/std::max(blur, type == at::kHalf ? 6e-8 : 0), /*equal_nan=*/true))
    return ::testing::AssertionFailure() << "the largest error is " << (a - b).abs().max().item<double>();
  const int64_t off = ((a - b).abs() > blur).sum().item<int64_t>();
  if (type != at::kFloat && off > 2 + got.numel() / 50)
    return ::testing::AssertionFailure() << off << " of " << got.numel() << " numbers differ in the last place";
  return ::testing::AssertionSuccess();
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_ENGINE_CUDA_TESTING_H_
