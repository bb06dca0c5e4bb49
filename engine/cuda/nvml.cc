#include "engine/cuda/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace causeway {
namespace {

// What is used of nvml.h, which comes with the driver's developer files and not with the runtime. NVIDIA keeps these
// functions as they are and gives new versions new names.
using NvmlDevice = struct NvmlDeviceHandle*;
using NvmlEvents = struct NvmlEventSet*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlMemory2 {
  unsigned version = sizeof(NvmlMemory2) | 2 << 24;
  unsigned long long total, reserved, free, used;
};
struct NvmlUtilization {
  unsigned gpu, memory;  // percent
};
struct NvmlProcess {
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};
struct NvmlEvent {
  NvmlDevice device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};
constexpr int kNvmlSuccess = 0;
constexpr int kChipSensor = 0, kCorrected = 0, kUncorrected = 1, kSinceDriver = 0;
constexpr unsigned long long kNotAvailable = ~0ull, kXidEvent = 8;
constexpr size_t kProcessesMax = 1024;
constexpr int kXidsMax = 1000;  // taken at a time, so that a GPU in trouble does not keep its reader
// The names that nvidia-smi has for them. Other bits say that the GPU idles or follows clocks that somebody set.
constexpr std::pair<unsigned long long, const char*> kThrottled[] = {
    {0x04, "sw_power_cap"},        {0x08, "hw_slowdown"},         {0x10, "sync_boost"},
    {0x20, "sw_thermal_slowdown"}, {0x40, "hw_thermal_slowdown"}, {0x80, "hw_power_brake_slowdown"}};

// The first three are there; the others are null where the driver is too old for them.
struct Nvml {
  int (*init)() = nullptr;
  int (*by_uuid)(const char* uuid, NvmlDevice*) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*memory2)(NvmlDevice, NvmlMemory2*) = nullptr;
  int (*processes)(NvmlDevice, unsigned* count, NvmlProcess*) = nullptr;
  int (*utilization)(NvmlDevice, NvmlUtilization*) = nullptr;
  int (*power)(NvmlDevice, unsigned* milliwatts) = nullptr;
  int (*power_limit)(NvmlDevice, unsigned* milliwatts) = nullptr;
  int (*temperature)(NvmlDevice, int sensor, unsigned* celsius) = nullptr;
  int (*throttled)(NvmlDevice, unsigned long long* reasons) = nullptr;
  int (*ecc)(NvmlDevice, int kind, int since, unsigned long long* errors) = nullptr;
  int (*make_events)(NvmlEvents*) = nullptr;
  int (*watch)(NvmlDevice, unsigned long long types, NvmlEvents) = nullptr;
  int (*next_event)(NvmlEvents, NvmlEvent*, unsigned wait_ms) = nullptr;
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
    const bool usable = find(found->init, "nvmlInit_v2") && find(found->by_uuid, "nvmlDeviceGetHandleByUUID") &&
                        find(found->memory, "nvmlDeviceGetMemoryInfo");
    find(found->memory2, "nvmlDeviceGetMemoryInfo_v2");
    find(found->processes, "nvmlDeviceGetComputeRunningProcesses_v3");
    find(found->utilization, "nvmlDeviceGetUtilizationRates");
    find(found->power, "nvmlDeviceGetPowerUsage");
    find(found->power_limit, "nvmlDeviceGetEnforcedPowerLimit");
    find(found->temperature, "nvmlDeviceGetTemperature");
    find(found->throttled, "nvmlDeviceGetCurrentClocksEventReasons");
    find(found->ecc, "nvmlDeviceGetTotalEccErrors");
    find(found->make_events, "nvmlEventSetCreate");
    find(found->watch, "nvmlDeviceRegisterEvents");
    find(found->next_event, "nvmlEventSetWait_v2");
    return usable && found->init() == kNvmlSuccess ? found : nullptr;
  }();
  return nvml;
}

// The function's answer. Nothing: there is no such function, or the GPU does not support it.
template <typename Answer, typename Function, typename... More>
std::optional<Answer> Ask(Function function, NvmlDevice device, More... more) {
  Answer answer{};
  if (function == nullptr || function(device, more..., &answer) != kNvmlSuccess) return std::nullopt;
  return answer;
}

// CUDA does not say whether a UUID is a GPU's or a MIG slice's.
struct Found {
  NvmlDevice device = nullptr;
  std::string uuid;
};
std::optional<Found> Find(const Nvml& nvml, const std::string& uuid) {
  for (const char* kind : {"GPU-", "MIG-"}) {
    Found found{nullptr, absl::StrCat(kind, uuid)};
    if (nvml.by_uuid(found.uuid.c_str(), &found.device) == kNvmlSuccess) return found;
  }
  return std::nullopt;
}

// What this process holds. Nothing, too, where NVML lists processes by ids of another namespace than ours.
std::optional<int64_t> OwnBytes(const Nvml& nvml, NvmlDevice device) {
  std::vector<NvmlProcess> processes(kProcessesMax);
  unsigned count = kProcessesMax;
  if (nvml.processes == nullptr || nvml.processes(device, &count, processes.data()) != kNvmlSuccess)
    return std::nullopt;
  for (unsigned i = 0; i < count && i < kProcessesMax; ++i) {
    if (processes[i].pid == static_cast<unsigned>(getpid()) && processes[i].used != kNotAvailable)
      return static_cast<int64_t>(processes[i].used);
  }
  return std::nullopt;
}

template <typename Number>
std::optional<double> Scaled(const std::optional<Number>& number, double unit) {
  if (!number.has_value()) return std::nullopt;
  return static_cast<double>(*number) * unit;
}

// Xid errors by GPU. NVML keeps events until they are asked for, so that no thread waits for them.
class Xids {
 public:
  struct Seen {
    std::optional<int64_t> count, last;
  };
  static Xids& Get() {
    static Xids* const xids = new Xids;
    return *xids;
  }
  void Watch(const Nvml& nvml, const std::string& uuid) {
    const std::optional<Found> found = Find(nvml, uuid);
    absl::MutexLock lock(&mutex_);
    if (!found.has_value() || watched_.count(uuid) > 0) return;
    if (nvml.make_events == nullptr || nvml.watch == nullptr || nvml.next_event == nullptr) return;
    NvmlEvents events = nullptr;
    if (nvml.make_events(&events) == kNvmlSuccess && nvml.watch(found->device, kXidEvent, events) == kNvmlSuccess)
      watched_[uuid] = {events, {0, std::nullopt}};
  }
  Seen Look(const Nvml& nvml, const std::string& uuid) {
    absl::MutexLock lock(&mutex_);
    const auto watched = watched_.find(uuid);
    if (watched == watched_.end()) return {};
    auto& [events, seen] = watched->second;
    NvmlEvent event{};
    for (int i = 0; i < kXidsMax && nvml.next_event(events, &event, /*wait_ms=*/0) == kNvmlSuccess; ++i) {
      if (event.type != kXidEvent) continue;
      ++*seen.count;
      seen.last = static_cast<int64_t>(event.data);
    }
    return seen;
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::pair<NvmlEvents, Seen>> watched_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::optional<int64_t> NvmlFreeBytes(const std::string& uuid) {
  const Nvml* nvml = GetNvml();
  if (nvml == nullptr) return std::nullopt;
  const std::optional<Found> found = Find(*nvml, uuid);
  if (!found.has_value()) return std::nullopt;
  const auto memory = Ask<NvmlMemory>(nvml->memory, found->device);
  if (!memory.has_value()) return std::nullopt;
  return static_cast<int64_t>(memory->free);
}

std::optional<GpuReading> ReadGpu(const std::string& uuid) {
  const Nvml* nvml = GetNvml();
  if (nvml == nullptr) return std::nullopt;
  const std::optional<Found> found = Find(*nvml, uuid);
  if (!found.has_value()) return std::nullopt;
  NvmlDevice device = found->device;
  GpuReading reading;
  reading.uuid = found->uuid;
  if (const auto utilization = Ask<NvmlUtilization>(nvml->utilization, device))
    reading.utilization = utilization->gpu / 100.0;
  reading.power_watts = Scaled(Ask<unsigned>(nvml->power, device), 1e-3);
  reading.power_limit_watts = Scaled(Ask<unsigned>(nvml->power_limit, device), 1e-3);
  reading.temperature_celsius = Scaled(Ask<unsigned>(nvml->temperature, device, kChipSensor), 1);
  if (const auto memory = Ask<NvmlMemory2>(nvml->memory2, device))  // its `used` may count what is reserved
    reading.used_bytes = static_cast<int64_t>(memory->total - memory->reserved - memory->free);
  reading.own_bytes = OwnBytes(*nvml, device);
  if (const auto throttled = Ask<unsigned long long>(nvml->throttled, device)) {
    for (const auto& [bit, reason] : kThrottled) reading.throttled[reason] = (*throttled & bit) != 0;
  }
  reading.ecc_corrected = Ask<unsigned long long>(nvml->ecc, device, kCorrected, kSinceDriver);
  reading.ecc_uncorrected = Ask<unsigned long long>(nvml->ecc, device, kUncorrected, kSinceDriver);
  const Xids::Seen xids = Xids::Get().Look(*nvml, uuid);
  reading.xids = xids.count;
  reading.last_xid = xids.last;
  return reading;
}

void WatchXids(const std::string& uuid) {
  if (const Nvml* nvml = GetNvml(); nvml != nullptr) Xids::Get().Watch(*nvml, uuid);
}

std::optional<int64_t> LastXid(const std::string& uuid) {
  const Nvml* nvml = GetNvml();
  return nvml == nullptr ? std::nullopt : Xids::Get().Look(*nvml, uuid).last;
}

}  // namespace causeway
