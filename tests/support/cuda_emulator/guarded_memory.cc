#include "tests/support/cuda_emulator/guarded_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace causeway::cuda_emulator {
namespace {

constexpr size_t kPage = 4096, kAlignment = 16;
constexpr unsigned char kPoison = 0xff;

size_t RoundUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

std::set<const GuardedMemory*>& Living() {
  static std::set<const GuardedMemory*>* living = new std::set<const GuardedMemory*>;
  return *living;
}

}  // namespace

GuardedMemory::GuardedMemory(std::string name, size_t bytes)
    : name_(std::move(name)), bytes_(bytes), pages_bytes_(RoundUp(std::max<size_t>(bytes, 1), kPage)) {
  void* memory = mmap(nullptr, pages_bytes_ + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CAUSEWAY_CHECK(memory != MAP_FAILED, bytes, " bytes");
  pages_ = static_cast<unsigned char*>(memory) + kPage;
  data_ = pages_ + pages_bytes_ - RoundUp(bytes, kAlignment);
  mprotect(pages_, pages_bytes_, PROT_READ | PROT_WRITE);
  std::memset(pages_, kPoison, pages_bytes_);
  Living().insert(this);
}

GuardedMemory::~GuardedMemory() {
  Living().erase(this);
  munmap(pages_ - kPage, pages_bytes_ + 2 * kPage);
}

void GuardedMemory::Fill(unsigned char byte) { std::memset(data_, byte, bytes_); }

void GuardedMemory::MakeReadOnly() { mprotect(pages_, pages_bytes_, PROT_READ); }

std::string GuardedMemory::Describe(const void* address) {
  const auto* at = static_cast<const unsigned char*>(address);
  for (const GuardedMemory* memory : Living()) {
    const unsigned char *begin = memory->pages_ - kPage, *end = memory->pages_ + memory->pages_bytes_ + kPage;
    const unsigned char* data_end = memory->data_ + memory->bytes_;
    if (at < begin || at >= end) continue;
    if (at < memory->data_) return absl::StrCat(memory->data_ - at, " bytes in front of `", memory->name_, "`");
    if (at >= data_end) return absl::StrCat(at - data_end, " bytes after the end of `", memory->name_, "`");
    return absl::StrCat("a write to `", memory->name_, "`, which is only read");
  }
  return "";
}

std::string GuardedMemory::Damage() {
  const auto changed = [](const unsigned char* begin, const unsigned char* end) {
    return std::find_if(begin, end, [](unsigned char byte) { return byte != kPoison; }) != end;
  };
  for (const GuardedMemory* memory : Living()) {
    if (changed(memory->pages_, memory->data_)) {
      return absl::StrCat("changed the bytes in front of `", memory->name_, "`");
    }
    if (changed(memory->data_ + memory->bytes_, memory->pages_ + memory->pages_bytes_)) {
      return absl::StrCat("changed the bytes after the end of `", memory->name_, "`");
    }
  }
  return "";
}

}  // namespace causeway::cuda_emulator
