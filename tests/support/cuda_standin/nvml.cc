// NVML's functions over a Machine. It makes no context. What the devices tell beside their memory is in a file (see
// standin.h), and is read at each call.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/cuda_standin/machine.h"

using causeway::standin::DeviceState;
using causeway::standin::Machine;
using causeway::standin::StateOf;

namespace {

constexpr int kNotSupported = 3, kNotFound = 6, kInsufficientSize = 7, kTimeout = 10;
constexpr long long kContextBytes = 300 << 20;
constexpr unsigned long long kXidEvent = 8;

struct Events {
  int device;
  size_t seen;
};

int IndexOf(const void* device) { return static_cast<int>(reinterpret_cast<intptr_t>(device)) - 1; }

// All that the file says of it, in its order.
std::vector<long long> Values(int device, const char* name) {
  const char* path = std::getenv("CAUSEWAY_STANDIN_NVML");
  std::ifstream file(path == nullptr ? "" : path);
  std::vector<long long> values;
  std::string key;
  long long index = 0, value = 0;
  while (file >> index >> key >> value) {
    if (index == device && key == name) values.push_back(value);
  }
  return values;
}
template <typename Number>
int Answer(const void* device, const char* name, Number* answer) {
  const std::vector<long long> values = Values(IndexOf(device), name);
  if (values.empty()) return kNotSupported;
  *answer = static_cast<Number>(values.back());
  return 0;
}

long long Sum(int device, const char* name) {
  long long sum = 0;
  for (const long long value : Values(device, name)) sum += value;
  return sum;
}
long long OwnBytes(const DeviceState& state) { return state.has_context ? state.allocated + kContextBytes : 0; }

}  // namespace

extern "C" {

struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlMemory2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct NvmlUtilization {
  unsigned gpu, memory;
};
struct NvmlProcess {
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};
struct NvmlEvent {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

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

int nvmlDeviceGetMemoryInfo_v2(void* device, NvmlMemory2* memory) {
  if (memory->version != (sizeof(NvmlMemory2) | 2 << 24)) return kNotSupported;
  const int index = IndexOf(device);
  const DeviceState state = StateOf(index);
  memory->total = state.total;
  memory->reserved = Sum(index, "reserved");
  memory->used = OwnBytes(state) + state.others + Sum(index, "others") + memory->reserved;
  memory->free = memory->total - std::min(memory->used, memory->total);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, NvmlMemory* memory) {
  NvmlMemory2 now{sizeof(NvmlMemory2) | 2 << 24, 0, 0, 0, 0};
  const int result = nvmlDeviceGetMemoryInfo_v2(device, &now);
  *memory = {now.total, now.free, now.used};
  return result;
}
// This process alone, once it has a context. The file may give it another id, as a container does.
int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned* count, NvmlProcess* processes) {
  const int index = IndexOf(device);
  const DeviceState state = StateOf(index);
  const unsigned capacity = *count;
  *count = state.has_context ? 1 : 0;
  if (capacity < *count) return kInsufficientSize;
  unsigned pid = getpid();
  Answer(device, "pid", &pid);
  if (*count > 0) processes[0] = {pid, static_cast<unsigned long long>(OwnBytes(state)), 0, 0};
  return 0;
}

int nvmlDeviceGetUtilizationRates(void* device, NvmlUtilization* rates) {
  rates->memory = 0;
  return Answer(device, "utilization", &rates->gpu);
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) { return Answer(device, "power", milliwatts); }
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* milliwatts) {
  return Answer(device, "power_limit", milliwatts);
}
int nvmlDeviceGetTemperature(void* device, int, unsigned* celsius) { return Answer(device, "temperature", celsius); }
int nvmlDeviceGetCurrentClocksEventReasons(void* device, unsigned long long* reasons) {
  return Answer(device, "reasons", reasons);
}
int nvmlDeviceGetTotalEccErrors(void* device, int kind, int, unsigned long long* errors) {
  return Answer(device, kind == 0 ? "ecc_corrected" : "ecc_uncorrected", errors);
}

int nvmlEventSetCreate(void** events) {
  *events = new Events{-1, 0};
  return 0;
}
// Every "xid" line that is written from here on is an event; the first, 0, says that the device tells them.
int nvmlDeviceRegisterEvents(void* device, unsigned long long types, void* events) {
  const size_t seen = Values(IndexOf(device), "xid").size();
  if (types != kXidEvent || seen == 0) return kNotSupported;
  *static_cast<Events*>(events) = {IndexOf(device), seen};
  return 0;
}
int nvmlEventSetWait_v2(void* events, NvmlEvent* event, unsigned) {
  auto* set = static_cast<Events*>(events);
  const std::vector<long long> xids = Values(set->device, "xid");
  if (set->seen >= xids.size()) return kTimeout;
  *event = {nullptr, kXidEvent, static_cast<unsigned long long>(xids[set->seen++]), 0, 0};
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
