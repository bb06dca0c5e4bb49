// What the executor needs of a kind of device. CpuRuntime (cpu_runtime.h) serves the CPU and simulated devices; the
// CUDA library brings its own (cuda_library.h).
#ifndef CAUSEWAY_ENGINE_DEVICE_DEVICE_RUNTIME_H_
#define CAUSEWAY_ENGINE_DEVICE_DEVICE_RUNTIME_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/device_memory.h"
#include "engine/ops/ops.h"
#include "engine/plan/plan.h"

namespace causeway {

// Whom a device's memory is counted for.
enum class MemoryOwner { kWeights, kKvCache, kActivations, kWorkspace };
inline constexpr int kMemoryOwners = 4;
const char* MemoryOwnerName(MemoryOwner owner);  // "weights", "kv_cache", ...

// One device in use. Its DeviceWorker's thread makes all calls, except where marked. Allocations are plain at::empty
// and the like with device(); the runtime counts them by the owner that a MemoryScope names. Nothing here waits for the
// device unless it says so. Errors are c10::Error.
class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  virtual const std::string& name() const = 0;  // the plan's: "cpu", "simulated:1", "cuda:0"; any thread
  virtual at::Device device() const = 0;        // where its tensors are (kCPU for simulated devices); any thread
  virtual std::unique_ptr<Ops>
  MakeOps() = 0;  // the best for the device, or the reference where the factory was told so

  // First on every thread that computes or allocates on this device (the worker, loaders): makes it the thread's
  // current device and sets how many threads an operation may use. Any thread.
  virtual void EnterThread(int threads) = 0;

  // Between these two, what the calling thread allocates on this device belongs to `owner`. They nest; use MemoryScope.
  // Memory may be freed on any thread and is credited to the owner it was allocated for. Any thread.
  virtual void PushOwner(MemoryOwner owner) = 0;
  virtual void PopOwner() = 0;
  virtual DeviceMemory memory() const = 0;  // any thread
  virtual void ResetActivationsPeak() = 0;  // the peak starts again from what is in use; any thread
  // Sets aside what weights will come from. Called once, before the first of them is made.
  virtual void ReserveWeights(int64_t /*bytes*/) {}
  // A new tensor of zeros, counted for the KV cache.
  virtual at::Tensor CacheZeros(at::IntArrayRef sizes, const at::TensorOptions& options) = 0;
  // Sets aside what a step's activations will come from. Called once, before the warm-up.
  virtual void ReserveActivations(int64_t bytes) = 0;
  // What the two calls above have reserved and not touched, once each: really held when every page has been
  // (PageToucher). Any thread, while neither of them runs.
  virtual std::vector<absl::Span<char>> TakeUntouched() { return {}; }

  // Whether the device computes from the CPU's memory: then the calls below copy nothing and return what they were
  // given. Any thread.
  virtual bool in_host_memory() const = 0;
  // A small host tensor on the device, for work started later on this thread. `host` may be reused or freed at once,
  // except on a device in host memory.
  virtual at::Tensor Upload(const at::Tensor& host) = 0;
  // Several of them, at once where that is one copy. Undefined ones stay so.
  virtual std::vector<at::Tensor> UploadAll(absl::Span<const at::Tensor> hosts) {
    std::vector<at::Tensor> uploaded;
    for (const at::Tensor& host : hosts) uploaded.push_back(host.defined() ? Upload(host) : host);
    return uploaded;
  }
  // A tensor of the device on the host. Waits until the work that makes it is done.
  virtual at::Tensor Download(const at::Tensor& tensor) = 0;
  // Starts to copy a tensor of the device to the host, behind the work that makes it. The result is there once what
  // Mark gives after this call has been waited for.
  virtual at::Tensor StartDownload(const at::Tensor& tensor) { return Download(tensor); }
  // A tensor on its way to another device. `written`, the sender's, marks the work that writes it; null: that is done.
  struct Sent {
    at::Tensor tensor;
    std::shared_ptr<void> written;
  };
  // Hands over a tensor that work already started on this thread writes. Work that is started later does not hold it
  // up.
  virtual Sent Send(at::Tensor tensor) { return {std::move(tensor), nullptr}; }
  // The tensor here, for work started later on this device: its queue of work waits for what writes the tensor, and
  // copies. The result may be written to.
  virtual at::Tensor Receive(Sent sent) = 0;
  // Waits until all work started on this device is done.
  virtual void Synchronize() = 0;
  // Asked once a call has failed: not OK where the device has failed for good, so that every later call will.
  virtual absl::Status Health() { return absl::OkStatus(); }

  // A step's part is computed by the work that is started between these two. Neither throws.
  virtual void BeginWork() { begun_ = std::chrono::steady_clock::now(); }
  virtual void EndWork() { busy_nanoseconds_ += (std::chrono::steady_clock::now() - begun_).count(); }
  // How long the device took for such work, as far as it is done; any thread.
  virtual double busy_seconds() const { return static_cast<double>(busy_nanoseconds_) / 1e9; }

  // For weights that are prefetched while steps are computed. Copies go beside the queue of work, and are done when the
  // call returns; any thread that has entered.
  virtual at::Tensor AllocateHost(int64_t bytes) = 0;  // uint8 in CPU memory that copies are fastest from; no owner's
  virtual void CopyFromHost(void* to, const void* from, int64_t bytes) = 0;
  virtual void CopyToHost(void* to, const void* from, int64_t bytes) = 0;
  // Waits, on any thread, for the work started so far on this one; null: it is done.
  virtual std::function<void()> Mark() = 0;

 private:
  std::chrono::steady_clock::time_point begun_;
  std::atomic<int64_t> busy_nanoseconds_ = 0;
};

// Runs `work`, which may call torch: its exceptions become statuses. ResourceExhausted when memory ran out; Aborted
// when another rank has failed (OtherRankFailed); Unavailable when another process cannot be reached (ConnectionLost).
absl::Status CatchTorch(const std::string& where, const std::function<absl::Status()>& work);

// Names the owner of what this thread allocates on the device while it lives.
class MemoryScope {
 public:
  MemoryScope(DeviceRuntime& runtime, MemoryOwner owner) : runtime_(runtime) { runtime_.PushOwner(owner); }
  ~MemoryScope() { runtime_.PopOwner(); }
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  DeviceRuntime& runtime_;
};

// By plan.device.kind.
absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeDeviceRuntime(const DevicePlan& plan, bool reference_ops);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_DEVICE_RUNTIME_H_
