#include "engine/cuda/nvml.h"

#include <dlfcn.h>

#include <string>
#include <type_traits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace causeway {
namespace {

// What is used of nvml.h, which comes with the driver's developer files and not with the runtime. NVIDIA keeps these
// functions as they are and gives new versions new names.
using NvmlDevice = struct NvmlDeviceHandle*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
constexpr int kNvmlSuccess = 0;

struct Nvml {
  int (*init)() = nullptr;
  int (*by_uuid)(const char* uuid, NvmlDevice* device) = nullptr;
  int (*memory)(NvmlDevice device, NvmlMemory* memory) = nullptr;
};

// Null where there is none that can be used.
const Nvml* GetNvml() {
  static const Nvml* const nvml = []() -> const Nvml* {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);  // never closed
    if (library == nullptr) return nullptr;
    auto* found = new Nvml;
    const auto find = [library](auto*& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    const bool whole = find(found->init, "nvmlInit_v2") && find(found->by_uuid, "nvmlDeviceGetHandleByUUID") &&
                       find(found->memory, "nvmlDeviceGetMemoryInfo");
    return whole && found->init() == kNvmlSuccess ? found : nullptr;
  }();
  return nvml;
}

// "8f3c...": 16 bytes as 8-4-4-4-12 hexadecimal digits.
std::string UuidText(const cudaUUID_t& uuid) {
  std::string text = absl::BytesToHexString(absl::string_view(uuid.bytes, sizeof(uuid.bytes)));
  for (const size_t dash : {20, 16, 12, 8}) text.insert(dash, "-");
  return text;
}

}  // namespace

std::optional<int64_t> NvmlFreeBytes(const cudaUUID_t& uuid) {
  const Nvml* nvml = GetNvml();
  if (nvml == nullptr) return std::nullopt;
  for (const char* kind : {"GPU-", "MIG-"}) {
    NvmlDevice device = nullptr;
    NvmlMemory memory{};
    if (nvml->by_uuid(absl::StrCat(kind, UuidText(uuid)).c_str(), &device) == kNvmlSuccess &&
        nvml->memory(device, &memory) == kNvmlSuccess)
      return static_cast<int64_t>(memory.free);
  }
  return std::nullopt;
}

}  // namespace causeway
