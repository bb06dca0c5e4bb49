// NVML's functions over a Machine. It makes no context.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/support/cuda_standin/machine.h"

using causeway::standin::DeviceState;
using causeway::standin::Machine;
using causeway::standin::StateOf;

extern "C" {

struct NvmlMemory {
  unsigned long long total, free, used;
};
constexpr int kNotFound = 6;

int nvmlInit_v2() { return Machine::Get().devices() > 0 ? 0 : kNotFound; }

// A device's number is the last byte of its UUID, as cudaGetDeviceProperties has it.
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  const size_t length = std::strlen(uuid);
  if (std::strncmp(uuid, "GPU-", 4) != 0 || length != 40) return kNotFound;
  const long index = std::strtol(uuid + length - 2, nullptr, 16);
  if (index >= Machine::Get().devices()) return kNotFound;
  *device = reinterpret_cast<void*>(index + 1);
  return 0;
}

int nvmlDeviceGetMemoryInfo(void* device, NvmlMemory* memory) {
  const DeviceState state = StateOf(static_cast<int>(reinterpret_cast<intptr_t>(device)) - 1);
  memory->total = state.total;
  memory->used = state.allocated + state.others;
  memory->free = std::max<int64_t>(0, state.total - state.allocated - state.others);
  return 0;
}

// c10 names the processes on a GPU that has run out of memory.
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** device) {
  unsigned domain = 0, bus = 0;
  if (std::sscanf(bus_id, "%x:%x:", &domain, &bus) != 2) return kNotFound;
  *device = reinterpret_cast<void*>(static_cast<intptr_t>(bus) + 1);
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses(void*, unsigned* count, void*) {
  *count = 0;
  return 0;
}

// c10 looks these up, and nothing here calls them.
int nvmlDeviceGetNvLinkRemoteDeviceType() { return kNotFound; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2() { return kNotFound; }
int nvmlSystemGetCudaDriverVersion_v2() { return kNotFound; }

}  // extern "C"
