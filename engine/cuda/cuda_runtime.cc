#include "engine/cuda/cuda_runtime.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include <ATen/Context.h>
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
#include <c10/cuda/PeerToPeerAccess.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/cuda/nvml.h"
#include "engine/cuda/pinned_uploads.h"
#include "engine/plan/budgets.h"

namespace causeway {
namespace {

constexpr int64_t kDownloadBytesMin = 16 * 1024;  // of a buffer

using c10::cuda::CUDACachingAllocator::getDeviceStats;

class CudaRuntime final : public DeviceRuntime {
 public:
  CudaRuntime(const Device& device, bool reference_ops)
      : index_(static_cast<c10::DeviceIndex>(device.index)),
        name_(device.name),
        uuid_(device.uuid),
        reference_ops_(reference_ops),
        copies_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, index_)),
        receipts_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, index_)) {}

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
  std::vector<at::Tensor> UploadAll(absl::Span<const at::Tensor> hosts) override {
    const c10::cuda::CUDAGuard guard(index_);
    return uploads_.Upload(hosts);
  }
  at::Tensor Download(const at::Tensor& tensor) override { return tensor.to(at::kCPU); }
  at::Tensor StartDownload(const at::Tensor& tensor) override {
    const at::Tensor from = tensor.contiguous();
    const int64_t bytes = static_cast<int64_t>(from.nbytes());
    // A buffer that nobody reads any more. To memory that is not pinned the driver would copy at once, and wait.
    auto buffer = std::find_if(downloads_.begin(), downloads_.end(), [bytes](const at::Tensor& held) {
      return held.storage().use_count() == 1 && held.numel() >= bytes;
    });
    if (buffer == downloads_.end())
      buffer = downloads_.insert(buffer, AllocateHost(std::max(kDownloadBytesMin, bytes)));
    at::Tensor host = buffer->narrow(0, 0, bytes).view(from.scalar_type()).view(from.sizes());
    C10_CUDA_CHECK(
        cudaMemcpyAsync(host.mutable_data_ptr(), from.const_data_ptr(), bytes, cudaMemcpyDeviceToHost, Stream()));
    return host;
  }
  Sent Send(at::Tensor tensor) override { return {tensor.contiguous(), RecordEvent(cudaEventDisableTiming)}; }
  at::Tensor Receive(Sent sent) override {
    const at::Tensor& from = sent.tensor;
    if (!from.is_cuda()) return from.to(device(), /*non_blocking=*/true);
    // The copy is this device's work: on the sender's stream it would queue behind the sender's next step. It has its
    // turn between this stream's work before and after, but is on a stream of its own: the allocator tells streams
    // apart by handles, and all devices' default streams have the same.
    const c10::cuda::CUDAGuard guard(index_);
    c10::cuda::get_p2p_access(index_, from.device().index());  // allows direct copies where the driver does
    at::Tensor to = at::empty(from.sizes(), from.options().device(device()));
    WaitFor(RecordEvent(cudaEventDisableTiming).get(), receipts_.stream());  // what used the memory of `to` before
    WaitFor(static_cast<cudaEvent_t>(sent.written.get()), receipts_.stream());
    C10_CUDA_CHECK(cudaMemcpyPeerAsync(to.mutable_data_ptr(), index_, from.const_data_ptr(), from.device().index(),
                                       from.nbytes(), receipts_.stream()));
    WaitFor(RecordEvent(cudaEventDisableTiming, receipts_.stream()).get(), Stream());
    // The sender's memory is used again only once it is copied.
    c10::cuda::CUDACachingAllocator::recordStream(from.storage().data_ptr(), receipts_);
    return to;
  }
  void BeginWork() override {
    try {
      begun_ = RecordEvent(cudaEventDefault);
    } catch (const c10::Error&) {
      begun_ = nullptr;  // the device has failed: the work says so
    }
  }
  void EndWork() override {
    try {
      std::shared_ptr<CUevent_st> ended = RecordEvent(cudaEventDefault);
      absl::MutexLock lock(&mutex_);
      if (begun_ != nullptr) timed_.emplace_back(std::move(begun_), std::move(ended));
      CollectTimes();
    } catch (const c10::Error&) {
      begun_ = nullptr;
    }
  }
  double busy_seconds() const override {
    absl::MutexLock lock(&mutex_);
    CollectTimes();
    return busy_seconds_;
  }
  void Synchronize() override {
    const c10::cuda::CUDAGuard guard(index_);
    C10_CUDA_CHECK(cudaStreamSynchronize(Stream()));
  }
  absl::Status Health() override {
    cudaGetLastError();                        // what is not for good is gone now
    const c10::cuda::CUDAGuard guard(index_);  // the default stream is that of the current device
    const cudaError_t error = cudaStreamQuery(Stream());
    if (error == cudaSuccess || error == cudaErrorNotReady) return absl::OkStatus();
    const std::optional<int64_t> xid = LastXid(uuid_);
    return absl::InternalError(absl::StrCat(name_, " has failed: ", cudaGetErrorString(error),
                                            xid.has_value() ? absl::StrCat("; its last Xid is ", *xid) : ""));
  }

  at::Tensor AllocateHost(int64_t bytes) override {
    // torch's page-locked memory is not used, since it comes in powers of two.
    void* memory = nullptr;
    const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
    if (error == cudaErrorMemoryAllocation) cudaGetLastError();  // so that the next call does not find it
    TORCH_CHECK_WITH(OutOfMemoryError, error != cudaErrorMemoryAllocation, name_, ": the system has no ", bytes,
                     " bytes of memory that can be locked for copies");
    C10_CUDA_CHECK(error);
    return at::from_blob(memory, {bytes}, [](void* block) { cudaFreeHost(block); }, at::TensorOptions(at::kByte));
  }
  void CopyFromHost(void* to, const void* from, int64_t bytes) override {
    Copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void CopyToHost(void* to, const void* from, int64_t bytes) override { Copy(to, from, bytes, cudaMemcpyDeviceToHost); }
  std::function<void()> Mark() override {
    return [event = RecordEvent(cudaEventDisableTiming)] { C10_CUDA_CHECK(cudaEventSynchronize(event.get())); };
  }

 private:
  struct Phase {
    int open = 0;
    int64_t before = 0, bytes = 0;
  };

  static void WaitFor(cudaEvent_t event, cudaStream_t stream) { C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event, 0)); }
  // An event behind the work that is started so far.
  std::shared_ptr<CUevent_st> RecordEvent(unsigned flags) const { return RecordEvent(flags, Stream()); }
  std::shared_ptr<CUevent_st> RecordEvent(unsigned flags, cudaStream_t stream) const {
    const c10::cuda::CUDAGuard guard(index_);  // an event and the default stream are the current device's
    cudaEvent_t made = nullptr;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&made, flags));
    std::shared_ptr<CUevent_st> event(made, [](cudaEvent_t old) { cudaEventDestroy(old); });
    C10_CUDA_CHECK(cudaEventRecord(made, stream));
    return event;
  }
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
  // Adds up the work that is done.
  void CollectTimes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (; !timed_.empty() && cudaEventQuery(timed_.front().second.get()) == cudaSuccess; timed_.pop_front()) {
      float milliseconds = 0;
      cudaEventElapsedTime(&milliseconds, timed_.front().first.get(), timed_.front().second.get());
      busy_seconds_ += milliseconds / 1e3;
    }
    cudaGetLastError();  // an event that is not ready counts as an error
  }
  int64_t Allocated() const { return getDeviceStats(index_).allocated_bytes[0].current; }
  static std::vector<MemoryOwner>& Owners() {
    static thread_local std::vector<MemoryOwner> owners;
    return owners;
  }

  const c10::DeviceIndex index_;
  const std::string name_, uuid_;
  const bool reference_ops_;
  const c10::cuda::CUDAStream copies_;    // of weights
  const c10::cuda::CUDAStream receipts_;  // of hidden states
  PinnedUploads uploads_{*this};          // of the worker's thread
  std::vector<at::Tensor> downloads_;     // likewise: pinned bytes, as many as steps are in flight
  mutable absl::Mutex mutex_;
  Phase phases_[kMemoryOwners] ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<CUevent_st> begun_;  // of the worker's thread
  // Events around work that may not be done yet.
  mutable std::deque<std::pair<std::shared_ptr<CUevent_st>, std::shared_ptr<CUevent_st>>> timed_
      ABSL_GUARDED_BY(mutex_);
  mutable double busy_seconds_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What the runtime says, which makes a context on the device.
int64_t FreeBytes(int device) {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  size_t available = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&available, &total));
  return static_cast<int64_t>(available);
}

// "8f3c...": 16 bytes as 8-4-4-4-12 hexadecimal digits.
std::string UuidText(const cudaUUID_t& uuid) {
  std::string text = absl::BytesToHexString(absl::string_view(uuid.bytes, sizeof(uuid.bytes)));
  for (const size_t dash : {20, 16, 12, 8}) text.insert(dash, "-");
  return text;
}

}  // namespace

absl::StatusOr<std::vector<Device>> ListCudaDevices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();  // which is reported here
    return absl::FailedPreconditionError(absl::StrCat("the CUDA driver shows no GPU: ", cudaGetErrorString(error)));
  }
  std::vector<Device> devices;
  for (int i = 0; i < count; ++i) {
    Device& device = devices.emplace_back();
    device.kind = DeviceKind::kCuda;
    device.id = device.index = i;
    device.name = absl::StrCat("cuda:", i);
    try {
      cudaDeviceProp properties;
      C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, i));
      device.uuid = UuidText(properties.uuid);
      const std::optional<int64_t> free = NvmlFreeBytes(device.uuid);
      device.available_bytes = free.has_value() ? *free : FreeBytes(i);
      device.model = properties.name;
      device.compute_capability = properties.major * 10 + properties.minor;
      device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
    } catch (const c10::Error& error) {
      // The device is broken, or another process has it alone. It keeps its number, and has no memory for us.
      device.model = absl::StrCat("not usable: ", error.what_without_backtrace());
      cudaGetLastError();
    }
  }
  return devices;
}

absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeCudaRuntime(const DevicePlan& plan, bool reference_ops) {
  const int index = plan.device.index;
  if (index < 0 || index >= c10::cuda::device_count()) {
    return absl::NotFoundError(
        absl::StrCat(plan.device.name, ": this machine has ", c10::cuda::device_count(), " CUDA devices"));
  }
  try {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
    c10::cuda::CUDACachingAllocator::init(c10::cuda::device_count());
    // Products of 16-bit numbers are summed in fp32 where cuBLAS cuts them, too: fp16 would overflow there.
    at::globalContext().setAllowFP16ReductionCuBLAS(false);
    at::globalContext().setAllowBF16ReductionCuBLAS(false);
    // The allocator enforces a budget below the device's memory. It hands out all but the context.
    const int64_t allocated_max = plan.budget - std::min(plan.reserve, kCudaContextBytes);
    const double share =
        static_cast<double>(allocated_max) / static_cast<double>(std::max<int64_t>(plan.device.memory_bytes, 1));
    c10::cuda::CUDACachingAllocator::setMemoryFraction(std::clamp(share, 0.0, 1.0),
                                                       static_cast<c10::DeviceIndex>(index));
    // cuBLAS adds up in fp32, also where it splits a sum among blocks.
    at::globalContext().setAllowFP16ReductionCuBLAS(false);
    at::globalContext().setAllowBF16ReductionCuBLAS(false);
    WatchXids(plan.device.uuid);
    return std::make_unique<CudaRuntime>(plan.device, reference_ops);
  } catch (const c10::Error& error) {
    cudaGetLastError();  // which has been reported
    return absl::FailedPreconditionError(absl::StrCat(plan.device.name, ": ", error.what_without_backtrace()));
  }
}

CudaSystem DescribeCudaSystem() {
  CudaSystem system;
  system.built_version = CUDART_VERSION;
  cudaDriverGetVersion(&system.driver_version);
  cudaRuntimeGetVersion(&system.runtime_version);
  const int devices = c10::cuda::device_count();
  if (const absl::StatusOr<std::vector<Device>> listed = ListCudaDevices(); listed.ok()) {
    for (const Device& device : *listed) {
      if (std::optional<GpuReading> reading = ReadGpu(device.uuid)) system.readings[device.index] = *std::move(reading);
    }
  }
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
