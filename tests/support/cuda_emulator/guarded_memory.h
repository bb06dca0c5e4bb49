// Memory for a kernel's arguments. Its end lies at a page without access, and so does the page in front of it.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_GUARDED_MEMORY_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_GUARDED_MEMORY_H_

#include <cstddef>
#include <string>

namespace causeway::cuda_emulator {

// All bytes are 0xff at first, also those of its first page that lie in front of it and the up to 15 after its end, by
// which it is aligned to 16 bytes. Kernels that change these, or touch the pages around, make a fault.
class GuardedMemory {
 public:
  GuardedMemory(std::string name, size_t bytes);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  template <typename T = void>
  T* data() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  void Fill(unsigned char byte);
  // From now on, writing makes a fault, too.
  void MakeReadOnly();

  // What is wrong with access to an address that belongs to a living object's pages: "3 bytes after the end of `keys`".
  // Nothing if it belongs to none.
  static std::string Describe(const void* address);
  // The first living object whose surroundings have changed: "changed the bytes in front of `keys`", or nothing.
  static std::string Damage();

 private:
  const std::string name_;
  const size_t bytes_;
  size_t pages_bytes_;  // without the two guards
  unsigned char *pages_, *data_;
};

}  // namespace causeway::cuda_emulator

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_GUARDED_MEMORY_H_
