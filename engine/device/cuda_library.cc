#include "engine/device/cuda_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

absl::StatusOr<const CudaLibrary*> Load() {
  // The driver is looked for first: without it the library, and the gigabytes it links, stay unloaded.
  if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) == nullptr) {
    return absl::NotFoundError(absl::StrCat("no CUDA driver on this machine: ", dlerror()));
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  std::string tried;
  for (const std::filesystem::path& folder : {program, program / ".." / "lib"}) {
    const std::string path = (folder / "libcauseway_cuda.so").lexically_normal().string();
    if (!std::filesystem::exists(path, error)) {
      absl::StrAppend(&tried, tried.empty() ? "" : ", ", path);
      continue;
    }
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: its allocators outlive every tensor
    if (library == nullptr)
      return absl::FailedPreconditionError(absl::StrCat("cannot load the CUDA library: ", dlerror()));
    auto entry = reinterpret_cast<const CudaLibrary* (*)()>(dlsym(library, "causeway_cuda_library"));
    if (entry == nullptr) return absl::FailedPreconditionError(absl::StrCat(path, ": no causeway_cuda_library in it"));
    return entry();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "there is a CUDA driver, but this build has no CUDA library (CAUSEWAY_CUDA=ON makes it); looked for ", tried));
}

}  // namespace

absl::StatusOr<const CudaLibrary*> LoadCudaLibrary() {
  static const absl::StatusOr<const CudaLibrary*>* library = new absl::StatusOr<const CudaLibrary*>(Load());
  return *library;
}

absl::StatusOr<std::vector<Device>> CudaDevices() {
  CAUSEWAY_ASSIGN_OR_RETURN(const CudaLibrary* library, LoadCudaLibrary());
  return library->devices();
}

}  // namespace causeway
