#include "tests/support/cuda_emulator/fibers.h"

#include <sys/mman.h>

#include "engine/base/check.h"

// The address sanitizer has to know which stack is in use.
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
namespace {
void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
}  // namespace
#endif

namespace causeway::cuda_emulator {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = 64 * 1024;

}  // namespace

Fibers::Fibers(int count_max) : count_max_(count_max) {
  const size_t bytes = count_max * (kStackBytes + kPage);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CAUSEWAY_CHECK(memory != MAP_FAILED);
  stacks_ = static_cast<char*>(memory);
  for (int i = 0; i < count_max; ++i) mprotect(stack(i) - kPage, kPage, PROT_NONE);
}

Fibers::~Fibers() { munmap(stacks_, count_max_ * (kStackBytes + kPage)); }

char* Fibers::stack(int fiber) const { return stacks_ + fiber * (kStackBytes + kPage) + kPage; }

void Fibers::Start(int count, const std::function<void()>& body) {
  CAUSEWAY_CHECK(count <= count_max_);
  body_ = &body;
  fibers_.clear();
  for (int i = 0; i < count; ++i) {
    ASAN_UNPOISON_MEMORY_REGION(stack(i), kStackBytes);
    // Stacks that all began at the same place of a page would push each other out of the processor's cache.
    const size_t shift = i % 16 * size_t{256};
    fibers_.push_back(make_fcontext(stack(i) + kStackBytes - shift, kStackBytes - shift, Enter));
  }
}

void Fibers::Resume(int fiber) {
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack(fiber), kStackBytes);
  fibers_[fiber] = jump_fcontext(fibers_[fiber], this).fctx;
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Fibers::Suspend() {
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, resumer_stack_, resumer_stack_bytes_);
  resumer_ = jump_fcontext(resumer_, nullptr).fctx;
  __sanitizer_finish_switch_fiber(fake_stack, &resumer_stack_, &resumer_stack_bytes_);
}

void Fibers::Enter(transfer_t from) {
  Fibers& fibers = *static_cast<Fibers*>(from.data);
  fibers.resumer_ = from.fctx;
  __sanitizer_finish_switch_fiber(nullptr, &fibers.resumer_stack_, &fibers.resumer_stack_bytes_);
  (*fibers.body_)();
  fibers.Suspend();
}

}  // namespace causeway::cuda_emulator
