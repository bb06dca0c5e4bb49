#include "tests/support/cuda_standin/kernels.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include <cxxabi.h>

#include "engine/base/limits.h"
#include "engine/cuda/activate.h"
#include "engine/cuda/norm.h"
#include "engine/cuda/paged_attention.h"
#include "engine/cuda/rotary_cache.h"

namespace causeway::standin {
namespace {

struct Name {
  std::string name, variant;
};
struct Kernels {
  std::mutex mutex;
  std::map<const void*, Name> names;
};
Kernels& kernels() {
  static Kernels* const kernels = new Kernels;
  return *kernels;
}

// The kernel's own name and template arguments in "void causeway::(anonymous namespace)::Attend<float, float, 2>(...)".
// Whatever the compiler calls the unnamed namespace, it is the innermost.
Name ShortName(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> plain(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                     std::free);
  const std::string name = plain != nullptr ? plain.get() : mangled;
  for (const char* known : {"Norm", "Activate", "RotaryCache", "Attend", "Merge"}) {
    const std::string before = std::string("::") + known;
    const size_t at = name.find(before + "<");
    if (at == std::string::npos) continue;
    const size_t first = at + before.size();
    return {known, name.substr(first, name.find(">(", first) + 1 - first)};
  }
  return {name, ""};
}

int64_t Bytes(CudaDType dtype) { return dtype == CudaDType::kF32 ? 4 : 2; }
int64_t Largest(const int64_t* numbers, int64_t count) { return *std::max_element(numbers, numbers + count); }

class Touches {
 public:
  void Reads(const void* begin, int64_t bytes) { Add(begin, bytes, false); }
  void Writes(const void* begin, int64_t bytes) { Add(begin, bytes, true); }
  std::vector<Touch> all;

 private:
  void Add(const void* begin, int64_t bytes, bool writes) {
    if (begin != nullptr && bytes > 0) all.push_back({begin, bytes, writes});
  }
};

void Declare(const NormArguments& a, Touches& touches) {
  const int64_t bytes = ((a.rows - 1) * a.stride + int64_t{a.groups} * a.width) * Bytes(a.dtype);
  touches.Reads(a.x, bytes);
  touches.Writes(a.residual, bytes);
  touches.Reads(a.weight, a.width * Bytes(a.dtype));
  touches.Reads(a.bias, a.width * Bytes(a.dtype));
  touches.Writes(a.y, bytes);
}

void Declare(const ActivateArguments& a, Touches& touches) {
  const int64_t bytes = int64_t{a.rows} * a.width * Bytes(a.dtype);
  touches.Reads(a.x, a.gated ? 2 * bytes : bytes);
  touches.Writes(a.y, bytes);
}

// The cache up to the last block that is used.
void Declare(const RotaryCacheArguments& a, Touches& touches) {
  const int64_t tables = a.pairs == 0 ? 0 : (Largest(a.positions, a.rows) + 1) * a.pairs * 4;
  touches.Writes(a.qkv, int64_t{a.rows} * (a.heads + 2 * a.kv_heads) * a.head_dim * Bytes(a.dtype));
  touches.Reads(a.cos, tables);
  touches.Reads(a.sin, tables);
  touches.Reads(a.positions, int64_t{a.rows} * 8);
  touches.Reads(a.slots, int64_t{a.rows} * 8);
  const int64_t cells = BlocksFor(Largest(a.slots, a.rows) + 1) * a.kv_heads * kBlockTokens;
  const int64_t bytes = cells * a.head_dim * (a.key_scales != nullptr ? 1 : Bytes(a.dtype));
  touches.Writes(a.keys, bytes);
  touches.Writes(a.values, bytes);
  touches.Writes(a.key_scales, cells * 4);
  touches.Writes(a.value_scales, cells * 4);
}

int64_t PartialBytes(const PagedAttentionArguments& a) {
  return int64_t{a.rows} * a.heads * a.splits * (a.head_dim + 2) * 4;
}
void DeclareOutput(const PagedAttentionArguments& a, Touches& touches) {
  touches.Writes(a.output, int64_t{a.rows} * a.heads * a.head_dim * Bytes(a.dtype));
}
void Declare(const PagedAttentionArguments& a, Touches& touches) {
  touches.Reads(a.queries, ((a.rows - 1) * a.query_stride + int64_t{a.heads} * a.head_dim) * Bytes(a.dtype));
  touches.Reads(a.positions, int64_t{a.rows} * 8);
  const int64_t entries = int64_t{a.sequences} * a.block_table_stride;
  touches.Reads(a.block_tables, entries * 4);
  touches.Reads(a.query_start, (int64_t{a.sequences} + 1) * 4);
  const int64_t blocks = *std::max_element(a.block_tables, a.block_tables + entries) + 1;
  const int64_t cells = blocks * a.kv_heads * kBlockTokens;
  const int64_t bytes = cells * a.head_dim * (a.key_scales != nullptr ? 1 : Bytes(a.dtype));
  touches.Reads(a.keys, bytes);
  touches.Reads(a.values, bytes);
  touches.Reads(a.key_scales, cells * 4);
  touches.Reads(a.value_scales, cells * 4);
  if (a.splits == 1) return DeclareOutput(a, touches);
  touches.Writes(a.partial, PartialBytes(a));
}
void DeclareMerge(const PagedAttentionArguments& a, Touches& touches) {
  touches.Reads(a.partial, PartialBytes(a));
  DeclareOutput(a, touches);
}

}  // namespace

void RegisterKernel(const void* function, const char* mangled_name) {
  std::lock_guard<std::mutex> lock(kernels().mutex);
  kernels().names[function] = ShortName(mangled_name);
}

std::string KernelName(const void* function) {
  std::lock_guard<std::mutex> lock(kernels().mutex);
  const auto found = kernels().names.find(function);
  return found == kernels().names.end() ? "a kernel" : found->second.name;
}

std::string KernelVariant(const void* function) {
  std::lock_guard<std::mutex> lock(kernels().mutex);
  const auto found = kernels().names.find(function);
  return found == kernels().names.end() ? "" : found->second.variant;
}

std::vector<Touch> TouchesOf(const void* function, void** arguments) {
  Touches touches;
  const std::string name = KernelName(function);
  if (name == "Norm") {
    Declare(*static_cast<const NormArguments*>(arguments[0]), touches);
  } else if (name == "Activate") {
    Declare(*static_cast<const ActivateArguments*>(arguments[0]), touches);
  } else if (name == "RotaryCache") {
    Declare(*static_cast<const RotaryCacheArguments*>(arguments[0]), touches);
  } else if (name == "Attend") {
    Declare(*static_cast<const PagedAttentionArguments*>(arguments[0]), touches);
  } else if (name == "Merge") {
    DeclareMerge(*static_cast<const PagedAttentionArguments*>(arguments[0]), touches);
  } else {
    std::fprintf(stderr, "tests/support/cuda_standin/kernels.cc declares nothing of %s\n", name.c_str());
    std::abort();
  }
  return std::move(touches.all);
}

}  // namespace causeway::standin
