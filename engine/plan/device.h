// Devices a model can be placed on, and what of their memory may be used.
#ifndef CAUSEWAY_ENGINE_PLAN_DEVICE_H_
#define CAUSEWAY_ENGINE_PLAN_DEVICE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

// kSimulated: computes on the CPU within a memory budget of its own, and stands for a GPU in device maps.
enum class DeviceKind { kCuda, kCpu, kSimulated };

// Whether the processor computes what is on such a device. A new kind has to say so here: the compiler asks for it.
inline bool ComputesOnCpu(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu:
    case DeviceKind::kSimulated: return true;
    case DeviceKind::kCuda: return false;
  }
  return false;
}

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int id = 0;                   // 0, 1, ... among GPUs (real or simulated), as device maps name them; 0 for the CPU
  std::string name;             // "cuda:0", "simulated:1", "cpu"
  std::string model;            // "NVIDIA H100 80GB HBM3"; what the kernel calls the processor
  int64_t memory_bytes = 0;     // in all
  int64_t available_bytes = 0;  // free now
  int64_t host_bytes = 0;       // free memory of the CPU beside it, to which weights may be offloaded; 0: not known
  bool at_hand = true;          // false: one that plans are made for and nothing runs on
  int compute_capability = 0;   // of a GPU: 90 is 9.0; 0: not known
  int index = 0;                // as the driver numbers it in the process that drives it
  int process = 0;              // that drives it, of those that serve a model together
  std::string host;             // that process's
  std::string uuid;             // of a GPU, as 32 hexadecimal digits in five groups; empty: of none, or not known

  std::string key() const { return kind == DeviceKind::kCpu ? "cpu" : std::to_string(id); }  // in device maps
};

// The least that the CUDA kernels are compiled for (CAUSEWAY_CUDA_ARCHITECTURES). GPUs from there on compute in fp16
// and bf16 alike.
inline constexpr int kComputeCapabilityMin = 80;
// Whether a model can run on a device. FailedPrecondition names the device and what it lacks.
absl::Status CanCompute(const Device& device);

// What --devices says: "cuda", "cuda:0,2", "cpu", "simulated:4x512MiB", "simulated:2x512MiB,1x1GiB", or what is not at
// hand: devices of the catalogue, "8xH100-80GB", "2xRTX4090,1xA6000", beside a CPU with so much memory,
// "2xRTX4090,cpu:256GB", or that CPU alone, "cpu:256GB", which is otherwise taken to be the one at hand. Empty or
// "auto": those that `cuda` finds and that can compute, where there are any, else the CPU. `cuda` lists the CUDA
// devices at hand, or says what keeps it from looking; it is asked only where the text allows one. InvalidArgument says
// what could have been written; FailedPrecondition: "cuda" without a CUDA device, or a device that cannot compute.
using CudaLister = std::function<absl::StatusOr<std::vector<Device>>()>;
absl::StatusOr<std::vector<Device>> ParseDevices(absl::string_view text, const CudaLister& cuda);

// The CPU as a device: memory as the kernel and the control group allow.
Device CpuDevice();

// "40GB", "512MiB", "1.5GiB", "1024B" -> bytes. Refuses what is ambiguous and says what to write instead.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);
// 1.5 GiB, 512 MiB, ... with one or two decimals.
std::string FormatBytes(int64_t bytes);

// "cpu:auto" as a budget: most of the memory that is free where the devices are, which MakeBudgets knows.
inline constexpr int64_t kAutoBytes = -1;

// "40GB" (every GPU), "0:40GB,1:60GB,cpu:100GB", or the field's JSON, {"0": "40GB", "cpu": 100000000000}, where a
// number is bytes -> device key -> bytes; a budget for every GPU has the key "".
absl::StatusOr<std::map<std::string, int64_t>> ParseMaxMemory(absl::string_view text);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_DEVICE_H_
