#include "engine/cuda/pinned_uploads.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include "engine/device/device_runtime.h"

namespace causeway {
namespace {

constexpr size_t kBuffersMax = 4;         // copies in flight; one more waits for the first
constexpr int64_t kBytesMin = 64 * 1024;  // of a buffer
constexpr int64_t kAlignment = 16;        // of a tensor, for the widest loads

bool IsBusy(cudaEvent_t event) {
  const cudaError_t state = cudaEventQuery(event);
  if (state != cudaErrorNotReady) {
    C10_CUDA_CHECK(state);
    return false;
  }
  cudaGetLastError();  // it counts as an error
  return true;
}

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

PinnedUploads::Buffer& PinnedUploads::Take(int64_t bytes) {
  const bool busy = !buffers_.empty() && IsBusy(buffers_.front().copied.get());
  if (buffers_.empty() || (busy && buffers_.size() < kBuffersMax)) {
    cudaEvent_t event = nullptr;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    buffers_.push_back({at::Tensor(), {event, [](cudaEvent_t old) { cudaEventDestroy(old); }}});
  } else {
    if (busy) C10_CUDA_CHECK(cudaEventSynchronize(buffers_.front().copied.get()));
    std::rotate(buffers_.begin(), buffers_.begin() + 1, buffers_.end());
  }
  Buffer& buffer = buffers_.back();
  if (!buffer.memory.defined() || buffer.memory.numel() < bytes) {
    buffer.memory.reset();
    buffer.memory = runtime_.AllocateHost(std::max(kBytesMin, static_cast<int64_t>(std::bit_ceil<uint64_t>(bytes))));
  }
  return buffer;
}

std::vector<at::Tensor> PinnedUploads::Upload(absl::Span<const at::Tensor> hosts) {
  int64_t bytes = 0;
  for (const at::Tensor& host : hosts) bytes += host.defined() ? Aligned(static_cast<int64_t>(host.nbytes())) : 0;
  const at::Tensor together = at::empty({bytes}, at::TensorOptions(at::kByte).device(runtime_.device()));
  std::vector<at::Tensor> uploaded;
  Buffer& buffer = Take(bytes);
  int64_t used = 0;
  for (const at::Tensor& host : hosts) {
    if (!host.defined()) {
      uploaded.emplace_back();
      continue;
    }
    const at::Tensor dense = host.contiguous();
    const int64_t size = static_cast<int64_t>(dense.nbytes());
    std::memcpy(static_cast<char*>(buffer.memory.mutable_data_ptr()) + used, dense.const_data_ptr(), size);
    uploaded.push_back(together.narrow(0, used, size).view(dense.scalar_type()).view(dense.sizes()));
    used += Aligned(size);
  }
  if (bytes > 0) {
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
    C10_CUDA_CHECK(cudaMemcpyAsync(together.mutable_data_ptr(), buffer.memory.const_data_ptr(), bytes,
                                   cudaMemcpyHostToDevice, stream));
    C10_CUDA_CHECK(cudaEventRecord(buffer.copied.get(), stream));
  }
  return uploaded;
}

}  // namespace causeway
