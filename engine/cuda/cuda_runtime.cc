#include "engine/cuda/cuda_runtime.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/plan/budgets.h"

namespace causeway {
namespace {

using c10::cuda::CUDACachingAllocator::getDeviceStats;

class CudaRuntime final : public DeviceRuntime {
 public:
  CudaRuntime(int index, std::string name, bool reference_ops)
      : index_(static_cast<c10::DeviceIndex>(index)),
        name_(std::move(name)),
        reference_ops_(reference_ops),
        copies_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, index_)) {}

  const std::string& name() const override { return name_; }
  at::Device device() const override { return at::Device(at::kCUDA, index_); }
  std::unique_ptr<Ops> MakeOps() override {
    // cuBLAS takes its workspace now, so that it is not counted among the first step's activations.
    MemoryScope scope(*this, MemoryOwner::kWorkspace);
    const at::Tensor ones = at::ones({8, 8}, at::TensorOptions(at::kFloat).device(device()));
    at::linear(ones, ones);
    at::linear(ones, ones, ones[0]);
    if (reference_ops_) return MakeReferenceOps();
    return std::make_unique<CudaOps>();
  }

  void EnterThread(int threads) override {
    at::get_num_threads();  // before the next call, which this one would undo otherwise: see CpuRuntime
    at::set_num_threads(threads);
    c10::cuda::set_device(index_);
  }

  // The caching allocator does not know owners. But weights, cache and steps come one after the other: what is
  // allocated between an owner's first scope and its last belongs to that owner.
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
  at::Tensor CacheZeros(at::IntArrayRef sizes, const at::TensorOptions& options) override {
    const MemoryScope scope(*this, MemoryOwner::kKvCache);
    return at::zeros(sizes, options);
  }
  void ReserveWeights(int64_t bytes) override { Reserve(bytes + bytes / 2048); }  // blocks are of whole 512 bytes
  void ReserveActivations(int64_t bytes) override {
    c10::cuda::CUDACachingAllocator::emptyCache();  // what loading took beside the weights
    Reserve(bytes);
  }

  bool in_host_memory() const override { return false; }
  at::Tensor Upload(const at::Tensor& host) override {
    // `host` is pageable memory: the driver has copied it into a staging buffer when this returns. What is larger than
    // that buffer (block tables of many long contexts) may wait for the GPU.
    at::Tensor result = at::empty(host.sizes(), host.options().device(device()));
    result.copy_(host, /*non_blocking=*/true);
    return result;
  }
  at::Tensor Download(const at::Tensor& tensor) override { return tensor.to(at::kCPU); }
  at::Tensor Import(at::Tensor tensor) override { return tensor.to(device(), /*non_blocking=*/true); }
  void Synchronize() override {
    const c10::cuda::CUDAGuard guard(index_);
    C10_CUDA_CHECK(cudaStreamSynchronize(Stream()));
  }

  at::Tensor AllocateHost(int64_t bytes) override {
    // torch's page-locked memory is not used, since it comes in powers of two.
    void* memory = nullptr;
    C10_CUDA_CHECK(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable));
    return at::from_blob(memory, {bytes}, [](void* block) { cudaFreeHost(block); }, at::TensorOptions(at::kByte));
  }
  void CopyFromHost(void* to, const void* from, int64_t bytes) override {
    Copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void CopyToHost(void* to, const void* from, int64_t bytes) override { Copy(to, from, bytes, cudaMemcpyDeviceToHost); }
  std::function<void()> Mark() override {
    // ATen's event is not used, since its header needs libraries that this one does without.
    cudaEvent_t made = nullptr;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    const std::shared_ptr<CUevent_st> event(made, [](cudaEvent_t old) { cudaEventDestroy(old); });
    C10_CUDA_CHECK(cudaEventRecord(made, Stream()));
    return [event] { C10_CUDA_CHECK(cudaEventSynchronize(event.get())); };
  }

 private:
  struct Phase {
    int open = 0;
    int64_t before = 0, bytes = 0;
  };

  // Copies on a stream of its own, so that it runs beside the kernels. It does not wait for what was started before on
  // the default stream.
  void Copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
    const c10::cuda::CUDAGuard guard(index_);
    C10_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, copies_.stream()));
    C10_CUDA_CHECK(cudaStreamSynchronize(copies_.stream()));
  }
  // One segment, which is free at once. The caching allocator keeps it, and cuts tensors from it as they come; each by
  // itself would be rounded up to 2 MiB or more.
  void Reserve(int64_t bytes) { at::empty({bytes}, at::TensorOptions(at::kByte).device(device())); }
  cudaStream_t Stream() const { return c10::cuda::getCurrentCUDAStream(index_).stream(); }
  int64_t Allocated() const { return getDeviceStats(index_).allocated_bytes[0].current; }
  static std::vector<MemoryOwner>& Owners() {
    static thread_local std::vector<MemoryOwner> owners;
    return owners;
  }

  const c10::DeviceIndex index_;
  const std::string name_;
  const bool reference_ops_;
  const c10::cuda::CUDAStream copies_;
  mutable absl::Mutex mutex_;
  Phase phases_[kMemoryOwners] ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::vector<Device> ListCudaDevices() {
  std::vector<Device> devices;
  for (int i = 0; i < c10::cuda::device_count(); ++i) {
    Device& device = devices.emplace_back();
    device.kind = DeviceKind::kCuda;
    device.id = i;
    device.name = absl::StrCat("cuda:", i);
    try {
      const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(i));
      cudaDeviceProp properties;
      size_t available = 0, total = 0;
      C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, i));
      C10_CUDA_CHECK(cudaMemGetInfo(&available, &total));
      device.model = properties.name;
      device.memory_bytes = static_cast<int64_t>(total);
      device.available_bytes = static_cast<int64_t>(available);
    } catch (const c10::Error& error) {
      // The device is broken, or another process has it alone. It keeps its number, and has no memory for us.
      device.model = absl::StrCat("not usable: ", error.what_without_backtrace());
      cudaGetLastError();
    }
  }
  return devices;
}

absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeCudaRuntime(const DevicePlan& plan, bool reference_ops) {
  const int index = plan.device.id;
  if (index < 0 || index >= c10::cuda::device_count()) {
    return absl::NotFoundError(
        absl::StrCat(plan.device.name, ": this machine has ", c10::cuda::device_count(), " CUDA devices"));
  }
  try {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
    c10::cuda::CUDACachingAllocator::init(c10::cuda::device_count());
    // The allocator enforces a budget below the device's memory. It hands out all but the context.
    const int64_t allocated_max = plan.budget - std::min(plan.reserve, kCudaContextBytes);
    const double share =
        static_cast<double>(allocated_max) / static_cast<double>(std::max<int64_t>(plan.device.memory_bytes, 1));
    c10::cuda::CUDACachingAllocator::setMemoryFraction(std::clamp(share, 0.0, 1.0),
                                                       static_cast<c10::DeviceIndex>(index));
  } catch (const c10::Error& error) {
    return absl::FailedPreconditionError(absl::StrCat(plan.device.name, ": ", error.what_without_backtrace()));
  }
  return std::make_unique<CudaRuntime>(index, plan.device.name, reference_ops);
}

CudaSystem DescribeCudaSystem() {
  CudaSystem system;
  system.built_version = CUDART_VERSION;
  cudaDriverGetVersion(&system.driver_version);
  cudaRuntimeGetVersion(&system.runtime_version);
  const int devices = c10::cuda::device_count();
  const auto has = [](cudaDeviceP2PAttr attribute, int from, int to) {
    int value = 0;
    return cudaDeviceGetP2PAttribute(&value, attribute, from, to) == cudaSuccess && value != 0;
  };
  for (int from = 0; from < devices; ++from) {
    for (int to = from + 1; to < devices; ++to) {
      system.links.push_back(
          {from, to, has(cudaDevP2PAttrAccessSupported, from, to), has(cudaDevP2PAttrNativeAtomicSupported, from, to)});
    }
  }
  void* pinned = nullptr;
  system.pins_memory = devices > 0 && cudaHostAlloc(&pinned, kPinnedTrialBytes, cudaHostAllocDefault) == cudaSuccess;
  if (pinned != nullptr) cudaFreeHost(pinned);
  cudaGetLastError();  // clears the error, which has been reported, so that the next caller does not find it
  return system;
}

}  // namespace causeway
