#include "engine/plan/device.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/status.h"
#include "engine/plan/catalogue.h"
#include "engine/plan/machine.h"

namespace causeway {
namespace {

constexpr int kDevicesMax = 1024;
constexpr absl::string_view kExpected =
    "expected \"cuda\", \"cuda:0,2\", \"cpu\", \"simulated:4x512MiB\", \"simulated:2x512MiB,1x1GiB\", or, for a plan, "
    "\"8xH100-80GB\", \"cpu:256GB\", \"2xRTX4090,cpu:256GB\"";

// "cuda" or "cuda:0,2" out of those at hand. Ids stay those of the driver.
absl::StatusOr<std::vector<Device>> CudaDevices(absl::string_view text, const CudaLister& cuda) {
  absl::StatusOr<std::vector<Device>> listed = cuda();
  if (!listed.ok() || listed->empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("devices \"", text, "\": ", listed.ok() ? "no CUDA device is at hand" : listed.status().message(),
                     "; \"cpu\" or \"simulated:1x4GiB\" run without a GPU"));
  }
  std::vector<Device> all = *std::move(listed);
  if (text == "cuda") return all;
  std::vector<Device> chosen;
  for (absl::string_view item : absl::StrSplit(absl::StripPrefix(text, "cuda:"), ',')) {
    int id = -1;
    if (!absl::SimpleAtoi(item, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("devices \"", text, "\": \"", item, "\" is not a GPU's number; ", kExpected));
    }
    auto same_id = [id](const Device& device) { return device.id == id; };
    auto found = std::find_if(all.begin(), all.end(), same_id);
    if (found == all.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "devices \"", text, "\": there is no GPU ", id, "; at hand are ",
          absl::StrJoin(all, ", ", [](std::string* out, const Device& device) { absl::StrAppend(out, device.name); })));
    }
    if (std::any_of(chosen.begin(), chosen.end(), same_id)) {
      return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\" names GPU ", id, " twice"));
    }
    chosen.push_back(*found);
  }
  std::sort(chosen.begin(), chosen.end(), [](const Device& a, const Device& b) { return a.id < b.id; });
  return chosen;
}

// "4x512MiB,1x1GiB", `what` in each item being the part behind the count: devices numbered through, made by `make`.
absl::StatusOr<std::vector<Device>> CountedDevices(
    absl::string_view text, absl::string_view items,
    const std::function<absl::StatusOr<Device>(absl::string_view what)>& make) {
  std::vector<Device> devices;
  for (absl::string_view item : absl::StrSplit(items, ',')) {
    int count = 1;
    absl::string_view what = absl::StripAsciiWhitespace(item);
    const size_t digits = std::min(what.find_first_not_of("-0123456789"), what.size());
    if (digits < what.size() && absl::ascii_tolower(what[digits]) == 'x') {
      if (!absl::SimpleAtoi(what.substr(0, digits), &count) || count < 1) {
        return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": \"", what.substr(0, digits),
                                                       "\" is not a number of devices; ", kExpected));
      }
      what = what.substr(digits + 1);
    }
    absl::StatusOr<Device> device = make(what);
    if (!device.ok())
      return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": ", device.status().message()));
    if (count > kDevicesMax - static_cast<int>(devices.size())) {
      return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": more than ", kDevicesMax, " devices"));
    }
    for (int i = 0; i < count; ++i) {
      device->id = device->index = static_cast<int>(devices.size());
      devices.push_back(*device);
      devices.back().name = absl::StrCat(device->name, ":", device->id);
    }
  }
  return devices;
}

// Gives the device so much, all of it free.
absl::Status SetMemory(absl::string_view size, Device& device) {
  CAUSEWAY_ASSIGN_OR_RETURN(device.memory_bytes, ParseBytes(size));
  if (device.memory_bytes == 0) return absl::InvalidArgumentError("a device without memory");
  device.available_bytes = device.memory_bytes;
  return absl::OkStatus();
}

absl::StatusOr<Device> SimulatedDevice(absl::string_view size) {
  Device device{.kind = DeviceKind::kSimulated, .name = "simulated", .model = "simulated on the CPU"};
  CAUSEWAY_RETURN_IF_ERROR(SetMemory(size, device));
  return device;
}

// "RTX 4090", "rtx-4090": "rtx4090".
std::string LettersAndDigits(absl::string_view name) {
  std::string text;
  for (const char c : name) {
    if (absl::ascii_isalnum(c)) text += absl::ascii_tolower(c);
  }
  return text;
}

// Those of the catalogue that `name` may mean; none: all of it.
std::string CatalogueAdvice(absl::string_view name) {
  const std::string wanted = LettersAndDigits(name);
  std::vector<std::string> alike, all;
  for (const CatalogueDevice& known : Catalogue()) {
    all.push_back(known.name);
    if (!wanted.empty() && absl::StrContains(LettersAndDigits(known.name), wanted)) alike.push_back(known.name);
  }
  if (alike.empty()) return absl::StrCat(kExpected, ". The catalogue has ", absl::StrJoin(all, ", "));
  return absl::StrCat("did you mean ", absl::StrJoin(alike, " or "), "?");
}

absl::StatusOr<Device> DeviceOfCatalogue(absl::string_view name) {
  const CatalogueDevice* entry = FindInCatalogue(name);
  if (entry == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not understood; ", CatalogueAdvice(name)));
  return Device{.kind = DeviceKind::kCuda,
                .name = "cuda",
                .model = entry->name,
                .memory_bytes = entry->memory_bytes,
                .available_bytes = entry->memory_bytes,
                .at_hand = false,
                .compute_capability = entry->compute_capability};
}

// "8xH100-80GB,cpu:256GB": GPUs of the catalogue, and the CPU of their machine; that one alone is the device.
absl::StatusOr<std::vector<Device>> DevicesNotAtHand(absl::string_view text) {
  std::vector<absl::string_view> gpus;
  Device cpu = CpuDevice();
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    absl::string_view size = absl::StripAsciiWhitespace(item);
    if (!absl::ConsumePrefix(&size, "cpu:")) {
      gpus.push_back(item);
      continue;
    }
    if (!cpu.at_hand) return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\" names the CPU twice"));
    if (absl::Status status = SetMemory(size, cpu); !status.ok())
      return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": ", status.message()));
    cpu.at_hand = false;
  }
  if (gpus.empty()) return std::vector<Device>{cpu};
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<Device> devices,
                            CountedDevices(text, absl::StrJoin(gpus, ","), DeviceOfCatalogue));
  for (Device& device : devices) device.host_bytes = cpu.at_hand ? 0 : cpu.memory_bytes;
  return devices;
}

// None: the text names no such devices.
absl::StatusOr<std::vector<Device>> DevicesAtHand(absl::string_view text, const CudaLister& cuda) {
  if (text.empty() || text == "auto") {
    std::vector<Device> able;
    if (const absl::StatusOr<std::vector<Device>> all = cuda(); all.ok()) {
      std::copy_if(all->begin(), all->end(), std::back_inserter(able),
                   [](const Device& device) { return CanCompute(device).ok(); });
    }
    return able.empty() ? std::vector<Device>{CpuDevice()} : able;
  }
  if (text == "cpu") return std::vector<Device>{CpuDevice()};
  if (text == "cuda" || absl::StartsWith(text, "cuda:")) return CudaDevices(text, cuda);
  if (absl::StartsWith(text, "simulated:"))
    return CountedDevices(text, absl::StripPrefix(text, "simulated:"), SimulatedDevice);
  return std::vector<Device>();
}

}  // namespace

absl::Status CanCompute(const Device& device) {
  const int capability = device.compute_capability;
  if (capability == 0 || capability >= kComputeCapabilityMin) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("%s (%s) has compute capability %.1f, and the CUDA kernels need %.1f or more", device.name,
                      device.model, capability / 10.0, kComputeCapabilityMin / 10.0));
}

absl::StatusOr<std::vector<Device>> ParseDevices(absl::string_view text, const CudaLister& cuda) {
  text = absl::StripAsciiWhitespace(text);
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<Device> devices, DevicesAtHand(text, cuda));
  const bool at_hand = !devices.empty();
  if (!at_hand) {
    CAUSEWAY_ASSIGN_OR_RETURN(devices, DevicesNotAtHand(text));
  }
  for (const Device& device : devices) {
    if (const absl::Status able = CanCompute(device); !able.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("devices \"", text, "\": ", able.message(), "; name others, or \"cpu\""));
    }
  }
  if (!at_hand) return devices;
  const int64_t host_bytes = CpuDevice().available_bytes;
  for (Device& device : devices) device.host_bytes = device.kind == DeviceKind::kCpu ? 0 : host_bytes;
  return devices;
}

Device CpuDevice() { return ReadCpuDevice(""); }

}  // namespace causeway
