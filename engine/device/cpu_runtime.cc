#include "engine/device/cpu_runtime.h"

#include <cstring>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <omp.h>

#include "engine/device/device_memory.h"
#include "engine/ops/cpu/huge_pages.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

class CpuRuntime final : public DeviceRuntime {
 public:
  CpuRuntime(const std::string& name, int64_t budget_bytes, bool reference_ops)
      : name_(name), reference_ops_(reference_ops), account_(MemoryAccount::Make(name, budget_bytes)) {
    InstallCountingAllocator();
  }

  const std::string& name() const override { return name_; }
  at::Device device() const override { return at::kCPU; }
  std::unique_ptr<Ops> MakeOps() override { return reference_ops_ ? MakeReferenceOps() : MakeCpuOps(); }
  void EnterThread(int threads) override {
    // What is left to ATen is small: it stays on the calling thread. The first question sets a new thread to what torch
    // thinks right; only after it is our number this thread's own. OpenMP is asked and not torch, which makes a pool of
    // threads anew that nobody uses whenever the number changes: 20 ms.
    at::get_num_threads();
    omp_set_num_threads(1);
    // What operations read is counted, and MemoryAccount waits for late helpers before it unmaps what is counted.
    SetTeam(threads, TakeOver::kAllowed);
  }

  void PushOwner(MemoryOwner owner) override { PushMemoryTag(account_.get(), owner); }
  void PopOwner() override { PopMemoryTag(); }
  DeviceMemory memory() const override { return account_->memory(); }
  void ResetActivationsPeak() override { account_->ResetActivationsPeak(); }
  at::Tensor CacheZeros(at::IntArrayRef sizes, const at::TensorOptions& options) override {
    const MemoryScope scope(*this, MemoryOwner::kKvCache);
    at::Tensor zeros = at::empty(sizes, options);  // kept memory is zeroed
    untouched_.push_back(absl::MakeSpan(static_cast<char*>(zeros.mutable_data_ptr()), zeros.nbytes()));
    return zeros;
  }
  void ReserveActivations(int64_t bytes) override { untouched_.push_back(account_->ReserveActivations(bytes)); }
  std::vector<absl::Span<char>> TakeUntouched() override { return std::exchange(untouched_, {}); }

  // All of them share the host's memory, and work started on a thread is done when the call returns.
  bool in_host_memory() const override { return true; }
  at::Tensor Upload(const at::Tensor& host) override { return host; }
  at::Tensor Download(const at::Tensor& tensor) override { return tensor; }
  at::Tensor Receive(Sent sent) override { return sent.tensor.cpu(); }
  void Synchronize() override {}

  at::Tensor AllocateHost(int64_t bytes) override {
    UncountedScope uncounted;
    at::Tensor memory = at::empty({bytes}, at::kByte);
    AskForHugePages(memory.mutable_data_ptr(), bytes);  // it may be computed from
    return memory;
  }
  void CopyFromHost(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, bytes); }
  void CopyToHost(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, bytes); }
  std::function<void()> Mark() override { return nullptr; }

 private:
  const std::string name_;
  const bool reference_ops_;
  const MemoryAccount::Ptr account_;
  std::vector<absl::Span<char>> untouched_;
};

}  // namespace

std::unique_ptr<DeviceRuntime> MakeCpuRuntime(const std::string& name, int64_t budget_bytes, bool reference_ops) {
  return std::make_unique<CpuRuntime>(name, budget_bytes, reference_ops);
}

}  // namespace causeway
