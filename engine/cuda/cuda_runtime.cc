#include "engine/cuda/cuda_runtime.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/cuda/cuda_ops.h"

namespace causeway {
namespace {

using c10::cuda::CUDACachingAllocator::getDeviceStats;

// Recorded when work was queued, waited for by another stream.
class Event {
 public:
  Event() { C10_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { C10_CUDA_IGNORE_ERROR(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_;
};

class CudaRuntime final : public DeviceRuntime {
 public:
  CudaRuntime(int index, std::string name, bool reference_ops)
      : index_(static_cast<c10::DeviceIndex>(index)), name_(std::move(name)), reference_ops_(reference_ops) {}

  const std::string& name() const override { return name_; }
  at::Device device() const override { return at::Device(at::kCUDA, index_); }
  std::unique_ptr<Ops> MakeOps() override {
    if (reference_ops_) return MakeReferenceOps();
    return std::make_unique<CudaOps>();
  }

  void EnterThread(int threads) override {
    at::set_num_threads(threads);
    c10::cuda::set_device(index_);
  }

  // The caching allocator does not know owners, but weights, cache and steps come one after the other: what is allocated
  // between the first scope of an owner and its last is that owner's.
  void PushOwner(MemoryOwner owner) override {
    absl::MutexLock lock(&mutex_);
    Phase& phase = phases_[static_cast<int>(owner)];
    if (phase.open++ == 0) phase.before = Allocated();
    Owners().push_back(owner);
  }
  void PopOwner() override {
    const MemoryOwner owner = Owners().back();
    Owners().pop_back();
    absl::MutexLock lock(&mutex_);
    Phase& phase = phases_[static_cast<int>(owner)];
    if (--phase.open == 0 && owner != MemoryOwner::kActivations) phase.bytes += Allocated() - phase.before;
  }

  DeviceMemory memory() const override {
    absl::MutexLock lock(&mutex_);
    DeviceMemory memory;
    memory.weights = phases_[static_cast<int>(MemoryOwner::kWeights)].bytes;
    memory.kv_cache = phases_[static_cast<int>(MemoryOwner::kKvCache)].bytes;
    memory.workspace = phases_[static_cast<int>(MemoryOwner::kWorkspace)].bytes;
    const int64_t held = memory.weights + memory.kv_cache + memory.workspace;
    memory.activations = std::max<int64_t>(0, Allocated() - held);
    memory.activations_peak = std::max<int64_t>(0, getDeviceStats(index_).allocated_bytes[0].peak - held);
    return memory;
  }
  void ResetActivationsPeak() override { c10::cuda::CUDACachingAllocator::resetPeakStats(index_); }
  void ReserveActivations(int64_t bytes) override {
    // Freed at once, and kept by the caching allocator, which cuts steps' tensors from it.
    at::empty({bytes}, at::TensorOptions(at::kByte).device(device()));
  }

  at::Tensor Upload(const at::Tensor& host) override {
    // From pageable memory: the driver has copied `host` into a staging buffer when this returns, and nothing waits for the GPU.
    at::Tensor result = at::empty(host.sizes(), host.options().device(device()));
    result.copy_(host, /*non_blocking=*/true);
    return result;
  }
  Handoff Export(at::Tensor tensor) override {
    auto event = std::make_shared<Event>();
    C10_CUDA_CHECK(cudaEventRecord(event->get(), Stream()));
    return {std::move(tensor), std::move(event)};
  }
  at::Tensor Import(Handoff handoff) override {
    if (handoff.tensor.is_cuda() && handoff.ready != nullptr) {
      C10_CUDA_CHECK(cudaStreamWaitEvent(Stream(), std::static_pointer_cast<Event>(handoff.ready)->get()));
    }
    return handoff.tensor.to(device(), /*non_blocking=*/true);
  }
  void Synchronize() override { C10_CUDA_CHECK(cudaStreamSynchronize(Stream())); }

 private:
  struct Phase {
    int open = 0;
    int64_t before = 0, bytes = 0;
  };

  cudaStream_t Stream() const { return c10::cuda::getCurrentCUDAStream(index_).stream(); }
  int64_t Allocated() const { return getDeviceStats(index_).allocated_bytes[0].current; }
  static std::vector<MemoryOwner>& Owners() {
    static thread_local std::vector<MemoryOwner> owners;
    return owners;
  }

  const c10::DeviceIndex index_;
  const std::string name_;
  const bool reference_ops_;
  mutable absl::Mutex mutex_;
  Phase phases_[kMemoryOwners] ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::vector<Device> ListCudaDevices() {
  std::vector<Device> devices;
  for (int i = 0; i < c10::cuda::device_count(); ++i) {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(i));
    cudaDeviceProp properties;
    size_t available = 0, total = 0;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess || cudaMemGetInfo(&available, &total) != cudaSuccess) continue;
    Device device;
    device.kind = DeviceKind::kCuda;
    device.id = i;
    device.name = absl::StrCat("cuda:", i);
    device.model = properties.name;
    device.memory_bytes = static_cast<int64_t>(total);
    device.available_bytes = static_cast<int64_t>(available);
    devices.push_back(std::move(device));
  }
  return devices;
}

absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeCudaRuntime(const DevicePlan& plan, bool reference_ops) {
  const int index = plan.device.id;
  if (index < 0 || index >= c10::cuda::device_count()) {
    return absl::NotFoundError(absl::StrCat(plan.device.name, ": this machine has ", c10::cuda::device_count(), " CUDA devices"));
  }
  try {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
    c10::cuda::CUDACachingAllocator::init(c10::cuda::device_count());
    // A budget below the device's memory is enforced by the allocator.
    const double share = static_cast<double>(plan.budget) / static_cast<double>(std::max<int64_t>(plan.device.memory_bytes, 1));
    c10::cuda::CUDACachingAllocator::setMemoryFraction(std::clamp(share, 0.0, 1.0), static_cast<c10::DeviceIndex>(index));
  } catch (const c10::Error& error) {
    return absl::FailedPreconditionError(absl::StrCat(plan.device.name, ": ", error.what_without_backtrace()));
  }
  return std::make_unique<CudaRuntime>(index, plan.device.name, reference_ops);
}

}  // namespace causeway
