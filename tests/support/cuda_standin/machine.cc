#include "tests/support/cuda_standin/machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace causeway::standin {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

Machine& Machine::Get() {
  static Machine* const machine = new Machine;  // outlives what static objects free
  return *machine;
}

void Machine::Describe() {
  if (std::exchange(described_, true)) return;
  if (const char* file = std::getenv("CAUSEWAY_STANDIN_FAULT")) fault_file_ = file;
  const char* text = std::getenv("CAUSEWAY_STANDIN");
  int count = 0, gib = 0;
  if (text == nullptr || std::sscanf(text, "%dx%dGiB", &count, &gib) != 2) return;
  states_.assign(count, DeviceState{.total = int64_t{gib} << 30});
  failed_.assign(count, false);
}

void Machine::SetDevices(int count, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Describe();
  states_.assign(count, DeviceState{.total = bytes});
  failed_.assign(count, false);
}

int Machine::devices() {
  std::lock_guard<std::mutex> lock(mutex_);
  Describe();
  return static_cast<int>(states_.size());
}

cudaError_t Machine::Remember(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

cudaError_t Machine::LastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t Machine::Begin(const Call& call, bool logged) {
  const int device = call.device;
  std::lock_guard<std::mutex> lock(mutex_);
  Describe();
  if (states_.empty()) return Remember(cudaErrorNoDevice);
  if (device < 0 || device >= static_cast<int>(states_.size())) return Remember(cudaErrorInvalidDevice);
  if (failed_[device] || (!fault_file_.empty() && access(fault_file_.c_str(), F_OK) == 0))
    return Remember(cudaErrorIllegalAddress);
  for (auto fault = faults_.begin(); fault != faults_.end(); ++fault) {
    if (fault->call != call.name || fault->more-- > 0) continue;
    const auto error = static_cast<cudaError_t>(fault->error);
    faults_.erase(fault);
    return Remember(error);
  }
  if (logging_ && logged) log_.push_back(call);
  return cudaSuccess;
}

cudaError_t Machine::Allocate(void** memory, size_t bytes, int device) {
  std::lock_guard<std::mutex> lock(mutex_);
  DeviceState& state = states_[device];
  state.has_context = true;
  const int64_t held = (static_cast<int64_t>(bytes) + 4095) / 4096 * 4096;
  if (state.allocated + state.others + held > state.total) return Remember(cudaErrorMemoryAllocation);
  void* mapped = mmap(nullptr, held, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return Remember(cudaErrorMemoryAllocation);
  state.allocated += held;
  state.allocated_peak = std::max(state.allocated_peak, state.allocated);
  memory_[mapped] = {device, held};
  *memory = mapped;
  return cudaSuccess;
}

cudaError_t Machine::Free(void* memory) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = memory_.find(memory);
  if (found == memory_.end()) return Remember(cudaErrorInvalidValue);
  states_[found->second.first].allocated -= static_cast<int64_t>(found->second.second);
  munmap(memory, found->second.second);
  memory_.erase(found);
  return cudaSuccess;
}

cudaError_t Machine::AllocateHost(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*memory == nullptr) return Remember(cudaErrorMemoryAllocation);
  std::lock_guard<std::mutex> lock(mutex_);
  locked_[*memory] = bytes;
  return cudaSuccess;
}

void Machine::FreeHost(void* memory) {
  std::lock_guard<std::mutex> lock(mutex_);
  locked_.erase(memory);
  std::free(memory);
}

std::vector<Touch> Machine::Known(std::vector<Touch> touches) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto lies_in = [](const auto& memory, const void* address, const auto& bytes_of) {
    auto after = memory.upper_bound(const_cast<void*>(address));
    if (after == memory.begin()) return false;
    --after;
    return static_cast<const char*>(address) < static_cast<const char*>(after->first) + bytes_of(after->second);
  };
  std::erase_if(touches, [&](const Touch& touch) {
    return !lies_in(memory_, touch.begin, [](const auto& held) { return held.second; }) &&
           !lies_in(locked_, touch.begin, [](size_t bytes) { return bytes; });
  });
  return touches;
}

void Machine::StartLog() {
  std::lock_guard<std::mutex> lock(mutex_);
  logging_ = true;
  log_.clear();
}

std::vector<Call> Machine::TakeLog() {
  std::lock_guard<std::mutex> lock(mutex_);
  logging_ = false;
  return std::exchange(log_, {});
}

bool Machine::logging() {
  std::lock_guard<std::mutex> lock(mutex_);
  return logging_;
}

void Machine::FailDevice(int device) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < failed_.size(); ++i) failed_[i] = failed_[i] || device < 0 || device == static_cast<int>(i);
}

void Machine::Mend() {
  std::lock_guard<std::mutex> lock(mutex_);
  failed_.assign(states_.size(), false);
  faults_.clear();
}

void Machine::FailCall(const std::string& name, int error, int more) {
  std::lock_guard<std::mutex> lock(mutex_);
  faults_.push_back({name, error, more});
}

void SetDevices(int count, int64_t bytes) { Machine::Get().SetDevices(count, bytes); }
void StartLog() { Machine::Get().StartLog(); }
std::vector<Call> TakeLog() { return Machine::Get().TakeLog(); }
Counts Count(const std::vector<Call>& calls) {
  Counts counts;
  for (const Call& call : calls) {
    counts.launches += call.launches;
    counts.waits += call.name.ends_with("Synchronize") || call.name == "cudaMemcpy";
    switch (call.copied) {
      case Copied::kNothing: break;
      case Copied::kToDevice: ++counts.to_device; break;
      case Copied::kToHost: ++counts.to_host; break;
      case Copied::kWithin: ++counts.within; break;
      case Copied::kBetween: ++counts.between; break;
    }
  }
  return counts;
}
DeviceState StateOf(int device) {
  std::lock_guard<std::mutex> lock(Machine::Get().mutex());
  return Machine::Get().state(device);
}
void ResetPeak(int device) {
  std::lock_guard<std::mutex> lock(Machine::Get().mutex());
  DeviceState& state = Machine::Get().state(device);
  state.allocated_peak = state.allocated;
}
void SetOthersBytes(int device, int64_t bytes) {
  std::lock_guard<std::mutex> lock(Machine::Get().mutex());
  Machine::Get().state(device).others = bytes;
}
void FailDevice(int device) { Machine::Get().FailDevice(device); }
void MendDevices() { Machine::Get().Mend(); }
void FailCall(const std::string& name, int error, int more) { Machine::Get().FailCall(name, error, more); }
void KeepEventsBusy(bool busy) { Machine::Get().events_busy = busy; }
void AllowPeerAccess(bool allow) { Machine::Get().peers = allow; }

}  // namespace causeway::standin
