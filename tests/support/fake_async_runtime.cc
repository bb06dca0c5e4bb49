#include "tests/support/fake_async_runtime.h"

#include <cstring>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "engine/device/cpu_runtime.h"
#include "engine/device/device_memory.h"
#include "tests/support/fake_async_ops.h"

namespace causeway::testing {
namespace {

class FakeAsyncRuntime final : public DeviceRuntime {
 public:
  FakeAsyncRuntime(std::unique_ptr<DeviceRuntime> cpu, std::shared_ptr<LateQueue> queue, bool reference_ops)
      : cpu_(std::move(cpu)), queue_(std::move(queue)), reference_ops_(reference_ops) {}
  ~FakeAsyncRuntime() override {
    try {
      Synchronize();
    } catch (const c10::Error&) {
      // The device has failed, and computes nothing any more.
    }
  }

  const std::string& name() const override { return cpu_->name(); }
  // The device has a number, which tells its weights from those of the host.
  at::Device device() const override { return at::Device(at::kCPU, 0); }
  std::unique_ptr<Ops> MakeOps() override {
    return MakeFakeAsyncOps(reference_ops_ ? MakeReferenceOps() : MakeCpuOps(), *this, queue_);
  }
  void EnterThread(int threads) override { cpu_->EnterThread(threads); }
  void PushOwner(MemoryOwner owner) override { cpu_->PushOwner(owner); }
  void PopOwner() override { cpu_->PopOwner(); }
  DeviceMemory memory() const override {
    DeviceMemory memory = cpu_->memory();
    memory.activations_peak = 0;
    return memory;
  }
  void ResetActivationsPeak() override {}
  at::Tensor CacheZeros(at::IntArrayRef sizes, const at::TensorOptions& options) override {
    return cpu_->CacheZeros(sizes, options);
  }
  void ReserveActivations(int64_t) override {}
  std::vector<absl::Span<char>> TakeUntouched() override { return cpu_->TakeUntouched(); }

  bool in_host_memory() const override { return false; }
  at::Tensor Upload(const at::Tensor& host) override {
    at::Tensor from, result = Poisoned(host.sizes(), host.options());
    {
      UncountedScope uncounted;
      from = host.clone();
    }
    queue_->Push([from, result] { result.copy_(from); }, LatePlace::kUpload);
    return result;
  }
  at::Tensor Download(const at::Tensor& tensor) override {
    Synchronize();
    queue_->Delay(LatePlace::kDownload);
    UncountedScope uncounted;
    return tensor.clone();
  }
  at::Tensor StartDownload(const at::Tensor& tensor) override {
    at::Tensor host;
    {
      UncountedScope uncounted;
      host = Poisoned(tensor.sizes(), tensor.options());
    }
    queue_->Push([tensor, host] { host.copy_(tensor); });
    return host;
  }
  Sent Send(at::Tensor tensor) override { return {std::move(tensor), std::make_shared<Written>(queue_)}; }
  at::Tensor Receive(Sent sent) override {
    at::Tensor result = Poisoned(sent.tensor.sizes(), sent.tensor.options());
    const auto copy = [sent, result] {
      const auto& written = *static_cast<const Written*>(sent.written.get());
      written.queue->Wait(written.pushed);
      result.copy_(sent.tensor);
    };
    queue_->Push(copy, LatePlace::kReceive);
    return result;
  }
  absl::Status Health() override {
    const std::string error = queue_->error();
    return error.empty() ? absl::OkStatus() : absl::InternalError(absl::StrCat(name(), ": ", error));
  }
  void Synchronize() override { queue_->Wait(queue_->pushed()); }

  at::Tensor AllocateHost(int64_t bytes) override { return cpu_->AllocateHost(bytes); }
  void CopyFromHost(void* to, const void* from, int64_t bytes) override {
    std::memset(to, 0xff, bytes);
    queue_->Delay(LatePlace::kCopyFromHost);
    std::memcpy(to, from, bytes);
  }
  void CopyToHost(void* to, const void* from, int64_t bytes) override {
    std::memset(to, 0xff, bytes);
    queue_->Delay(LatePlace::kCopyToHost);
    std::memcpy(to, from, bytes);
  }
  std::function<void()> Mark() override {
    return [queue = queue_, pushed = queue_->pushed()] { queue->Wait(pushed); };
  }

 private:
  // The work that the device had when it sent something.
  struct Written {
    explicit Written(std::shared_ptr<LateQueue> from) : queue(std::move(from)), pushed(queue->pushed()) {}
    const std::shared_ptr<LateQueue> queue;
    const uint64_t pushed;
  };

  const std::unique_ptr<DeviceRuntime> cpu_;
  const std::shared_ptr<LateQueue> queue_;
  const bool reference_ops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceRuntime>> FakeMachine::MakeRuntime(const DevicePlan& plan, bool reference_ops) {
  std::unique_ptr<DeviceRuntime> cpu = MakeCpuRuntime(plan.device.name, /*budget_bytes=*/0, reference_ops);
  LateOptions options = options_;
  options.seed += queues_.size();
  auto queue = std::make_shared<LateQueue>(plan.device.name, options, [runtime = cpu.get()] {
    runtime->EnterThread(1);
    // The tag stays for the thread's life: the memory of what it computes in between counts nowhere.
    PushMemoryTag(nullptr, MemoryOwner::kWorkspace);
  });
  queues_[plan.device.name] = queue;
  return std::make_unique<FakeAsyncRuntime>(std::move(cpu), std::move(queue), reference_ops);
}

}  // namespace causeway::testing
