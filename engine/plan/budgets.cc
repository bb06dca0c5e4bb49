#include "engine/plan/budgets.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

int64_t MostOf(int64_t free_bytes) { return free_bytes / 10 * 9; }

int64_t DefaultBudget(const Device& device, size_t devices) {
  switch (device.kind) {
    case DeviceKind::kSimulated: return device.memory_bytes;
    case DeviceKind::kCuda: return MostOf(device.available_bytes);
    case DeviceKind::kCpu: return devices == 1 ? MostOf(device.available_bytes) : 0;
  }
  return 0;
}

// Of the CPU beside devices. One that is named with them, though not at hand, is there to be used.
int64_t DefaultOffloadBytes(const Device& device, const std::map<std::string, int64_t>& max_memory) {
  const bool every_gpu = max_memory.size() == 1 && max_memory.contains("");
  return !device.at_hand && (max_memory.empty() || every_gpu) ? MostOf(device.host_bytes) : 0;
}

absl::StatusOr<int64_t> OffloadBytes(const Device& device, int64_t given) {
  if (given != kAutoBytes) {
    if (!device.at_hand && device.host_bytes > 0 && given > device.host_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("max_memory gives cpu ", FormatBytes(given), ", but it has only ",
                                                     FormatBytes(device.host_bytes)));
    }
    return given;
  }
  if (device.host_bytes > 0) return MostOf(device.host_bytes);
  return absl::InvalidArgumentError(
      "max_memory has \"cpu:auto\" for devices that are not at hand; expected their CPU's memory among the devices, as "
      "in \"2xRTX4090,cpu:256GB\", or a size in place of auto");
}

absl::Status CheckBudget(const Device& device, int64_t bytes) {
  if (bytes < 0)
    return absl::InvalidArgumentError(absl::StrCat("max_memory gives ", device.name, " a negative budget"));
  if (bytes > device.memory_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_memory gives ", device.name, " ", FormatBytes(bytes),
                                                   ", but it has only ", FormatBytes(device.memory_bytes)));
  }
  if (device.kind != DeviceKind::kSimulated && bytes > device.available_bytes) {
    return absl::FailedPreconditionError(absl::StrCat("max_memory gives ", device.name, " ", FormatBytes(bytes),
                                                      ", but only ", FormatBytes(device.available_bytes), " of its ",
                                                      FormatBytes(device.memory_bytes), " are free now"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Budgets> MakeBudgets(absl::Span<const Device> devices,
                                    const std::map<std::string, int64_t>& max_memory) {
  if (devices.empty()) return absl::InvalidArgumentError("no device to place the model on");
  auto name = [](std::string* out, const Device& device) {
    absl::StrAppend(out, device.key(), " (", device.name, ")");
  };
  std::map<std::string, int> index_of;
  bool has_gpu = false;
  for (size_t i = 0; i < devices.size(); ++i) {
    has_gpu |= devices[i].kind != DeviceKind::kCpu;
    if (!index_of.emplace(devices[i].key(), i).second) {
      return absl::InvalidArgumentError(absl::StrCat("two devices have the key ", devices[i].key(),
                                                     " in device maps: ", absl::StrJoin(devices, ", ", name)));
    }
  }

  Budgets budgets;
  budgets.cpu_offload_bytes = DefaultOffloadBytes(devices.front(), max_memory);
  budgets.is_given.assign(devices.size(), false);
  for (const Device& device : devices)
    budgets.bytes.push_back(max_memory.empty() ? DefaultBudget(device, devices.size()) : 0);
  if (auto every = max_memory.find(""); every != max_memory.end()) {
    for (size_t i = 0; i < devices.size(); ++i) {
      if (has_gpu && devices[i].kind == DeviceKind::kCpu) continue;
      budgets.bytes[i] = every->second;
      budgets.is_given[i] = true;
    }
  }
  for (const auto& [key, bytes] : max_memory) {
    if (key.empty() || key == "disk") continue;
    auto found = index_of.find(key);
    if (found != index_of.end()) {
      budgets.bytes[found->second] = bytes == kAutoBytes ? MostOf(devices[found->second].available_bytes) : bytes;
      budgets.is_given[found->second] = true;
    } else if (key == "cpu") {
      CAUSEWAY_ASSIGN_OR_RETURN(budgets.cpu_offload_bytes, OffloadBytes(devices.front(), bytes));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("max_memory has a budget for device ", key, ", which is not at hand; there ",
                       devices.size() == 1 ? "is " : "are ", absl::StrJoin(devices, ", ", name)));
    }
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    if (!budgets.is_given[i]) continue;
    if (absl::Status status = CheckBudget(devices[i], budgets.bytes[i]); !status.ok()) return status;
  }
  if (std::all_of(budgets.bytes.begin(), budgets.bytes.end(), [](int64_t bytes) { return bytes <= 0; })) {
    const bool offload = budgets.cpu_offload_bytes > 0;
    const std::string message =
        max_memory.empty() ? "no device has free memory"
        : offload
            ? absl::StrCat("max_memory gives a budget to the CPU alone, but the devices are ",
                           absl::StrJoin(devices, ", ", name), "; take the CPU as the device (devices \"cpu\") instead")
            : absl::StrCat("max_memory leaves no device with a budget; at hand are ",
                           absl::StrJoin(devices, ", ", name));
    return absl::InvalidArgumentError(message);
  }
  return budgets;
}

int64_t ReserveBytes(const Device& device) {
  switch (device.kind) {
    case DeviceKind::kCuda: {
      constexpr int64_t kMiB = int64_t{1} << 20;
      constexpr int64_t kLibraries = 64 * kMiB;     // a thread's first product
      constexpr int64_t kSegments = 3 * 20 * kMiB;  // weights, KV cache and activations are one each
      constexpr int64_t kSmallActivations = 32 * kMiB;
      const int64_t blocks = device.memory_bytes / 2048;  // 512 bytes for each of more than 1 MiB
      return kCudaContextBytes + kLibraries + kSegments + kSmallActivations + blocks;
    }
    case DeviceKind::kCpu:
    case DeviceKind::kSimulated: return 0;
  }
  return 0;
}

}  // namespace causeway
