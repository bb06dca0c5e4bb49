// Brings several small tensors to a device in one copy, which the host does not wait for.
#ifndef CAUSEWAY_ENGINE_CUDA_PINNED_UPLOADS_H_
#define CAUSEWAY_ENGINE_CUDA_PINNED_UPLOADS_H_

#include <deque>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include "absl/types/span.h"

namespace causeway {

class DeviceRuntime;

// One thread uses it, whose current device is the runtime's.
class PinnedUploads {
 public:
  // `runtime` gives page-locked memory, and outlives this.
  explicit PinnedUploads(DeviceRuntime& runtime) : runtime_(runtime) {}

  // Tensors on the device, for work that is started later on the current stream; undefined ones stay so. They share one
  // stretch of memory. `hosts` may be reused at once.
  std::vector<at::Tensor> Upload(absl::Span<const at::Tensor> hosts);

 private:
  struct Buffer {
    at::Tensor memory;                   // page-locked
    std::shared_ptr<CUevent_st> copied;  // behind the last copy from it
  };

  // One that no copy reads any more, of `bytes` or more, at the end of buffers_.
  Buffer& Take(int64_t bytes);

  DeviceRuntime& runtime_;
  std::deque<Buffer> buffers_;  // the one that was used first goes first
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CUDA_PINNED_UPLOADS_H_
