// Memory of the CPU and of simulated devices: counted by device and owner, kept within the device's budget.
#ifndef CAUSEWAY_ENGINE_DEVICE_DEVICE_MEMORY_H_
#define CAUSEWAY_ENGINE_DEVICE_DEVICE_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "engine/device/arena.h"
#include "engine/device/device_runtime.h"

namespace causeway {

// What one device has handed out. Thread-safe. Lives as long as its creator and every block it handed out, since a
// tensor may outlive the executor that made it.
class MemoryAccount {
 public:
  struct Closer {
    void operator()(MemoryAccount* account) const { account->Drop(); }
  };
  using Ptr = std::unique_ptr<MemoryAccount, Closer>;

  // budget_bytes 0: without limit.
  static Ptr Make(std::string name, int64_t budget_bytes);

  // From here on activations come from an arena of this size, counted against the budget as a whole. Once at most.
  // Throws c10::OutOfMemoryError over the budget. Returns the arena's memory, whose pages nobody has touched yet.
  absl::Span<char> ReserveActivations(int64_t bytes);

  DeviceMemory memory() const;
  void ResetActivationsPeak();

  // Aligned to 64 bytes. Throws c10::OutOfMemoryError naming device, owner, budget, used and asked. `account` null:
  // counted nowhere (staging buffers, the tensors of other libraries).
  static void* Allocate(MemoryAccount* account, MemoryOwner owner, size_t bytes);
  static void Free(void* block);  // any thread

  // The same for what is kept as long as the model: weights and the KV cache. Blocks lie side by side (Regions),
  // zeroed, and no page of them is touched here, so that the threads that fill them share the work of taking pages.
  struct Kept;
  struct KeptBlock {
    void* data;
    Kept* kept;  // what FreeKept wants
  };
  static KeptBlock AllocateKept(MemoryAccount* account, MemoryOwner owner, size_t bytes);
  static void FreeKept(void* kept);  // any thread

 private:
  struct Header;

  MemoryAccount(std::string name, int64_t budget_bytes) : name_(std::move(name)), budget_(budget_bytes) {}
  ~MemoryAccount() = default;
  void Drop();
  void Charge(MemoryOwner owner, int64_t bytes);  // against the budget; throws
  [[noreturn]] static void Refuse(MemoryAccount* account, MemoryOwner owner,
                                  size_t bytes);  // the system did; takes the charge back
  void* FromArena(size_t bytes);
  void Count(MemoryOwner owner, int64_t bytes);

  const std::string name_;
  const int64_t budget_;
  std::atomic<int64_t> references_ = 1;  // the creator and each block
  std::atomic<int64_t> held_ =
      0;  // against the budget: all owners' bytes, of activations the arena and what is outside it
  std::atomic<int64_t> used_[kMemoryOwners] = {};
  std::atomic<int64_t> activations_peak_ = 0;
  absl::Mutex arena_mutex_;
  std::unique_ptr<Arena> arena_ ABSL_GUARDED_BY(arena_mutex_);
};

// Makes MemoryAccount the allocator of all CPU tensors of the process. The first call counts; tensors made before it
// are freed by the allocator that made them.
void InstallCountingAllocator();

// The account and owner that the calling thread's CPU tensors are counted for.
void PushMemoryTag(MemoryAccount* account, MemoryOwner owner);
void PopMemoryTag();

// What the thread allocates while it lives is counted nowhere: memory of the process beside all devices.
class UncountedScope {
 public:
  UncountedScope() { PushMemoryTag(nullptr, MemoryOwner::kWorkspace); }
  ~UncountedScope() { PopMemoryTag(); }
  UncountedScope(const UncountedScope&) = delete;
  UncountedScope& operator=(const UncountedScope&) = delete;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_DEVICE_MEMORY_H_
