#include "engine/device/device_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include <c10/core/Allocator.h>
#include <c10/util/Exception.h>

#include "engine/device/regions.h"
#include "engine/plan/device.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

constexpr size_t kHugePage = 2 << 20;

struct MemoryTag {
  MemoryAccount* account;
  MemoryOwner owner;
};
thread_local std::vector<MemoryTag> tags;

// From the system, with room for the header. Large blocks start on a huge page: small pages would cost TLB misses.
void* SystemAllocate(size_t bytes) {
  const bool large = bytes >= 2 * kHugePage;
  void* base = nullptr;
  if (posix_memalign(&base, large ? kHugePage : Arena::kAlignment, bytes) != 0) return nullptr;
  if (large) madvise(base, bytes, MADV_HUGEPAGE);
  return base;
}

// Where weights and caches lie, of all devices.
Regions& KeptRegions() {
  static Regions* const regions = new Regions;  // outlives tensors that static objects hold
  return *regions;
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &MemoryAccount::Free, cpu};
    const MemoryTag tag = tags.empty() ? MemoryTag{nullptr, MemoryOwner::kWorkspace} : tags.back();
    if (tag.account != nullptr && (tag.owner == MemoryOwner::kWeights || tag.owner == MemoryOwner::kKvCache)) {
      const MemoryAccount::KeptBlock block = MemoryAccount::AllocateKept(tag.account, tag.owner, bytes);
      return {block.data, block.kept, &MemoryAccount::FreeKept, cpu};
    }
    void* block = MemoryAccount::Allocate(tag.account, tag.owner, bytes);
    return {block, block, &MemoryAccount::Free, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &MemoryAccount::Free; }
  void copy_data(void* destination, const void* source, size_t count) const override {
    default_copy_data(destination, source, count);
  }
};

}  // namespace

const char* MemoryOwnerName(MemoryOwner owner) {
  constexpr const char* kNames[kMemoryOwners] = {"weights", "kv_cache", "activations", "workspace"};
  return kNames[static_cast<int>(owner)];
}

void PushMemoryTag(MemoryAccount* account, MemoryOwner owner) { tags.push_back({account, owner}); }
void PopMemoryTag() { tags.pop_back(); }

void InstallCountingAllocator() {
  static const bool installed = [] {
    c10::SetAllocator(c10::DeviceType::CPU, new CountingAllocator, /*priority=*/100);  // lives as long as the process
    return true;
  }();
  (void)installed;
}

// Stands before each block that is not kept.
struct alignas(Arena::kAlignment) MemoryAccount::Header {
  MemoryAccount* account;
  size_t bytes;  // as asked for
  MemoryOwner owner;
  bool in_arena;
};

// Of a kept block. Beside the heap's other small things and not before the block: writing it would take the block's
// first page, which may be a huge one, on the thread that allocates.
struct MemoryAccount::Kept {
  MemoryAccount* account;
  int64_t bytes;
  MemoryOwner owner;
  Regions::Region* region;
};

MemoryAccount::Ptr MemoryAccount::Make(std::string name, int64_t budget_bytes) {
  return Ptr(new MemoryAccount(std::move(name), budget_bytes));
}

void MemoryAccount::Drop() {
  if (references_.fetch_sub(1) == 1) delete this;
}

void MemoryAccount::Charge(MemoryOwner owner, int64_t bytes) {
  const int64_t held = held_.fetch_add(bytes);
  if (budget_ == 0 || held + bytes <= budget_) return;
  held_ -= bytes;
  const DeviceMemory now = memory();
  TORCH_CHECK_WITH(OutOfMemoryError, false, "device ", name_, ": ", bytes, " bytes for ", MemoryOwnerName(owner),
                   " do not fit: the budget is ", budget_, " (", FormatBytes(budget_), "), of which ", held,
                   " are held (weights ", now.weights, ", kv_cache ", now.kv_cache, ", activations ", now.activations,
                   ", workspace ", now.workspace, ")");
}

void MemoryAccount::Count(MemoryOwner owner, int64_t bytes) {
  const int64_t used = used_[static_cast<int>(owner)].fetch_add(bytes) + bytes;
  if (owner != MemoryOwner::kActivations) return;
  int64_t peak = activations_peak_.load();
  while (used > peak && !activations_peak_.compare_exchange_weak(peak, used)) {
  }
}

void MemoryAccount::Refuse(MemoryAccount* account, MemoryOwner owner, size_t bytes) {
  if (account != nullptr) account->held_ -= bytes;
  TORCH_CHECK_WITH(OutOfMemoryError, false, "device ", account == nullptr ? "cpu" : account->name_,
                   ": the system has no ", bytes, " bytes for ", MemoryOwnerName(owner));
}

absl::Span<char> MemoryAccount::ReserveActivations(int64_t bytes) {
  absl::MutexLock lock(&arena_mutex_);
  TORCH_CHECK(arena_ == nullptr, "device ", name_, ": activations are reserved already");
  if (bytes <= 0) return {};
  Charge(MemoryOwner::kActivations, bytes);
  try {
    arena_ = std::make_unique<Arena>(bytes);
  } catch (const std::bad_alloc&) {
    Refuse(this, MemoryOwner::kActivations, bytes);
  }
  return arena_->memory();
}

void* MemoryAccount::FromArena(size_t bytes) {
  absl::MutexLock lock(&arena_mutex_);
  return arena_ == nullptr ? nullptr : arena_->Allocate(bytes);
}

void* MemoryAccount::Allocate(MemoryAccount* account, MemoryOwner owner, size_t bytes) {
  const size_t total = bytes + sizeof(Header);
  void* base = nullptr;
  if (account != nullptr && owner == MemoryOwner::kActivations) base = account->FromArena(total);
  const bool in_arena = base != nullptr;
  if (!in_arena) {
    // Activations that find no hole go outside the arena as long as the device's budget allows.
    if (account != nullptr) account->Charge(owner, bytes);
    base = SystemAllocate(total);
    if (base == nullptr) Refuse(account, owner, bytes);
  }
  Header* header = new (base) Header{account, bytes, owner, in_arena};
  if (account != nullptr) {
    account->references_++;
    account->Count(owner, bytes);
  }
  return header + 1;
}

void MemoryAccount::Free(void* block) {
  if (block == nullptr) return;
  Header* header = static_cast<Header*>(block) - 1;
  MemoryAccount* account = header->account;
  if (account == nullptr) {
    std::free(header);
    return;
  }
  const int64_t bytes = header->bytes;
  account->used_[static_cast<int>(header->owner)] -= bytes;
  if (header->in_arena) {
    absl::MutexLock lock(&account->arena_mutex_);
    account->arena_->Free(header, bytes + sizeof(Header));
  } else {
    WaitForLateHelpers();  // they may still read what is unmapped here
    account->held_ -= bytes;
    std::free(header);
  }
  account->Drop();
}

MemoryAccount::KeptBlock MemoryAccount::AllocateKept(MemoryAccount* account, MemoryOwner owner, size_t bytes) {
  account->Charge(owner, static_cast<int64_t>(bytes));
  const Regions::Block block = KeptRegions().Allocate(bytes);
  if (block.data == nullptr) Refuse(account, owner, bytes);
  account->references_++;
  account->Count(owner, static_cast<int64_t>(bytes));
  return {block.data, new Kept{account, static_cast<int64_t>(bytes), owner, block.region}};
}

void MemoryAccount::FreeKept(void* kept) {
  const std::unique_ptr<Kept> block(static_cast<Kept*>(kept));
  WaitForLateHelpers();  // they may still read what is unmapped here
  block->account->used_[static_cast<int>(block->owner)] -= block->bytes;
  block->account->held_ -= block->bytes;
  KeptRegions().Free(block->region);
  block->account->Drop();
}

DeviceMemory MemoryAccount::memory() const {
  DeviceMemory memory;
  memory.weights = used_[static_cast<int>(MemoryOwner::kWeights)];
  memory.kv_cache = used_[static_cast<int>(MemoryOwner::kKvCache)];
  memory.activations = used_[static_cast<int>(MemoryOwner::kActivations)];
  memory.workspace = used_[static_cast<int>(MemoryOwner::kWorkspace)];
  memory.activations_peak = activations_peak_;
  return memory;
}

void MemoryAccount::ResetActivationsPeak() {
  activations_peak_ = used_[static_cast<int>(MemoryOwner::kActivations)].load();
}

}  // namespace causeway
