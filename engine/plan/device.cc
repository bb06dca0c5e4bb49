#include "engine/plan/device.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/status.h"
#include "engine/plan/machine.h"

namespace causeway {
namespace {

constexpr int kDevicesMax = 1024;
constexpr absl::string_view kExpected =
    "expected \"cuda\", \"cuda:0,2\", \"cpu\", \"simulated:4x512MiB\" or \"simulated:2x512MiB,1x1GiB\"";

// "cuda" or "cuda:0,2" out of those at hand. Ids stay those of the driver.
absl::StatusOr<std::vector<Device>> CudaDevices(absl::string_view text, const CudaLister& cuda) {
  absl::StatusOr<std::vector<Device>> listed = cuda();
  if (!listed.ok()) return absl::FailedPreconditionError(absl::StrCat("devices \"", text, "\": ", listed.status().message()));
  std::vector<Device> all = *std::move(listed);
  if (all.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("devices \"", text, "\": no CUDA device is at hand (is there a GPU, and is its driver loaded?); \"cpu\" or ",
                     "\"simulated:1x4GiB\" run without one"));
  }
  if (text == "cuda") return all;
  std::vector<Device> chosen;
  for (absl::string_view item : absl::StrSplit(absl::StripPrefix(text, "cuda:"), ',')) {
    int id = -1;
    if (!absl::SimpleAtoi(item, &id)) {
      return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": \"", item, "\" is not a GPU's number; ", kExpected));
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

// "4x512MiB" or "2x512MiB,1x1GiB": numbered through.
absl::StatusOr<std::vector<Device>> SimulatedDevices(absl::string_view text) {
  std::vector<Device> devices;
  for (absl::string_view item : absl::StrSplit(absl::StripPrefix(text, "simulated:"), ',')) {
    int count = 1;
    absl::string_view size = absl::StripAsciiWhitespace(item);
    if (const size_t x = size.find('x'); x != absl::string_view::npos) {
      if (!absl::SimpleAtoi(size.substr(0, x), &count) || count < 1) {
        return absl::InvalidArgumentError(
            absl::StrCat("devices \"", text, "\": \"", size.substr(0, x), "\" is not a number of devices; ", kExpected));
      }
      size = size.substr(x + 1);
    }
    absl::StatusOr<int64_t> bytes = ParseBytes(size);
    if (!bytes.ok()) return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": ", bytes.status().message()));
    if (*bytes == 0) return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": a device without memory"));
    if (count > kDevicesMax - static_cast<int>(devices.size())) {
      return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\": more than ", kDevicesMax, " devices"));
    }
    for (int i = 0; i < count; ++i) {
      Device device;
      device.kind = DeviceKind::kSimulated;
      device.id = static_cast<int>(devices.size());
      device.name = absl::StrCat("simulated:", device.id);
      device.model = "simulated on the CPU";
      device.memory_bytes = device.available_bytes = *bytes;
      devices.push_back(std::move(device));
    }
  }
  return devices;
}

}  // namespace

absl::StatusOr<std::vector<Device>> ParseDevices(absl::string_view text, const CudaLister& cuda) {
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) {
    absl::StatusOr<std::vector<Device>> all = cuda();
    if (all.ok() && !all->empty()) return all;
    return std::vector<Device>{CpuDevice()};
  }
  if (text == "cpu") return std::vector<Device>{CpuDevice()};
  if (text == "cuda" || absl::StartsWith(text, "cuda:")) return CudaDevices(text, cuda);
  if (absl::StartsWith(text, "simulated:")) return SimulatedDevices(text);
  return absl::InvalidArgumentError(absl::StrCat("devices \"", text, "\" is not understood; ", kExpected));
}

Device CpuDevice() { return ReadCpuDevice(""); }

}  // namespace causeway
