#include "engine/ops/cpu/isa.h"

#include <cstdlib>
#include <new>

namespace causeway::cpu {

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx512Vnni: return "avx512-vnni";
    case Isa::kAvx512Bf16: return "avx512-bf16";
  }
  return "unknown";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> found;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (vnni && __builtin_cpu_supports("avx512bf16")) found.push_back(Isa::kAvx512Bf16);
  if (vnni) found.push_back(Isa::kAvx512Vnni);
  if (avx512) found.push_back(Isa::kAvx512);
  if (avx2) found.push_back(Isa::kAvx2);
#endif
  found.push_back(Isa::kPortable);
  return found;
}

const Kernels& KernelsOf(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512Bf16: return avx512bf16::kKernels;
    case Isa::kAvx512Vnni: return avx512vnni::kKernels;
    case Isa::kAvx512: return avx512::kKernels;
    case Isa::kAvx2: return avx2::kKernels;
#endif
    default: return portable::kKernels;
  }
}

namespace {
struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;
  ~Buffer() { std::free(data); }
};
}  // namespace

void* Scratch(size_t bytes) {
  thread_local Buffer buffer;
  if (buffer.bytes < bytes) {
    std::free(buffer.data);
    // The buffer grows by a quarter more than asked, so that batches that grow row by row don't allocate each time.
    buffer.bytes = (bytes + bytes / 4 + 4095) / 4096 * 4096;
    buffer.data = std::aligned_alloc(64, buffer.bytes);
    // Within a parallel region this ends the process. A step's scratch is small, and constant after the first steps.
    if (buffer.data == nullptr) {
      buffer.bytes = 0;
      throw std::bad_alloc();
    }
  }
  return buffer.data;
}

}  // namespace causeway::cpu
