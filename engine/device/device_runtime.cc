#include "engine/device/device_runtime.h"

#include <exception>

#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/device/communicator.h"
#include "engine/device/cpu_runtime.h"
#include "engine/device/cuda_library.h"
#include "engine/device/endpoint.h"

namespace causeway {

absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeDeviceRuntime(const DevicePlan& plan, bool reference_ops) {
  switch (plan.device.kind) {
    case DeviceKind::kCpu:
    case DeviceKind::kSimulated: return MakeCpuRuntime(plan.device.name, plan.budget, reference_ops);
    case DeviceKind::kCuda: break;
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const CudaLibrary* cuda, LoadCudaLibrary());
  return cuda->make_runtime(plan, reference_ops);
}

absl::Status CatchTorch(const std::string& where, const std::function<absl::Status()>& work) {
  try {
    return work();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(error.what_without_backtrace());
  } catch (const OtherRankFailed& error) {
    return absl::AbortedError(absl::StrCat(where, ": ", error.what()));
  } catch (const ConnectionLost& error) {
    return absl::UnavailableError(absl::StrCat(where, ": ", error.what()));
  } catch (const c10::Error& error) {
    return absl::InternalError(absl::StrCat(where, ": ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(where, ": ", error.what()));
  }
}

}  // namespace causeway
