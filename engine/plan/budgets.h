// What each device may use, from the devices and max_memory.
#ifndef CAUSEWAY_ENGINE_PLAN_BUDGETS_H_
#define CAUSEWAY_ENGINE_PLAN_BUDGETS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/plan/device.h"

namespace causeway {

struct Budgets {
  std::vector<int64_t> bytes;     // by device
  std::vector<bool> is_given;     // by max_memory, rather than taken from the device
  int64_t cpu_offload_bytes = 0;  // of CPU memory beside the devices
};

// Without max_memory: a simulated device's memory, 0.9 of what is free on a CUDA device, 0.9 of what is free on the CPU
// where it is the only device (else 0). With it, as the field has it: devices that it does not list are not used; a
// budget for every GPU means the CPU where there is no GPU; disk's is accepted and not applied. Weights may be
// offloaded to as much CPU memory as it gives the CPU beside devices; kAutoBytes is 0.9 of what is free there. A CPU
// that is not at hand and was named beside devices has that budget unless it lists others by name.
//
// InvalidArgument: a device twice or not at hand, a budget above a device's memory, kAutoBytes where nothing is known
// of the CPU. FailedPrecondition: above what is free.
absl::StatusOr<Budgets> MakeBudgets(absl::Span<const Device> devices, const std::map<std::string, int64_t>& max_memory);

// Of a device in use, beside weights, KV cache and activations. On CUDA: kCudaContextBytes, what cuBLAS takes, and what
// torch's caching allocator rounds up. That makes blocks of whole 512 bytes, and segments of 2 MiB or, for small
// models, 20 MiB; it keeps what is up to 1 MiB apart from the rest.
int64_t ReserveBytes(const Device& device);
// The driver's context and the libraries' code, which no allocator sees.
inline constexpr int64_t kCudaContextBytes = int64_t{536} << 20;

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_BUDGETS_H_
