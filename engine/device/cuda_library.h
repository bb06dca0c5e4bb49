// Everything that links CUDA, as a library that is loaded where there is a driver. No torch here: whoever only asks
// about GPUs compiles without it.
#ifndef CAUSEWAY_ENGINE_DEVICE_CUDA_LIBRARY_H_
#define CAUSEWAY_ENGINE_DEVICE_CUDA_LIBRARY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device/gpu_reading.h"
#include "engine/plan/device.h"

namespace causeway {

class DeviceRuntime;
struct DevicePlan;

// How two GPUs reach each other, as the driver says.
struct CudaLink {
  int from = 0, to = 0;         // ids, from < to
  bool peer_access = false;     // one may read the other's memory itself; else copies go through the CPU's
  bool native_atomics = false;  // over the link as well, which NVLink has and PCIe has not
};

// What CUDA is here. Versions as it counts them: 13020 is 13.2; 0: not known.
struct CudaSystem {
  int driver_version = 0;              // the latest CUDA that the driver serves
  int runtime_version = 0;             // of the runtime library that was loaded
  int built_version = 0;               // of the one that this program was compiled with
  std::vector<CudaLink> links;         // every pair of devices
  bool pins_memory = false;            // kPinnedTrialBytes of the CPU's memory could be locked for copies
  std::map<int, GpuReading> readings;  // by id, of the GPUs that NVML knows, before anything was tried on them
};
inline constexpr int64_t kPinnedTrialBytes = int64_t{256} << 20;

// What the CUDA library offers. It exports `extern "C" const causeway::CudaLibrary* causeway_cuda_library()`; the
// result lives as long as the process.
struct CudaLibrary {
  // Those at hand, id ascending. FailedPrecondition: the driver shows none, and says why.
  absl::StatusOr<std::vector<Device>> (*devices)();
  absl::StatusOr<std::unique_ptr<DeviceRuntime>> (*make_runtime)(const DevicePlan& plan, bool reference_ops);
  CudaSystem (*system)();  // asks and tries; for looking at a machine, not for serving
  // What NVML says of the GPU with Device::uuid; nothing: no NVML, or not that GPU. Makes no context. Takes
  // milliseconds, and may hang where a GPU has fallen off its bus. Any thread.
  std::optional<GpuReading> (*read)(const std::string& uuid);
};

// The library, loaded at the first call: libcauseway_cuda.so beside the program or in ../lib from it. NotFound: there
// is no driver. FailedPrecondition: there is one, but no library that can be loaded. Any thread.
absl::StatusOr<const CudaLibrary*> LoadCudaLibrary();
// The CUDA devices at hand. Fails as LoadCudaLibrary and CudaLibrary::devices do.
absl::StatusOr<std::vector<Device>> CudaDevices();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_CUDA_LIBRARY_H_
