#include "engine/plan/machine.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/control_group.h"
#include "engine/base/kernel_file.h"

namespace causeway {
namespace {

// The value behind `name` in lines of "name value" or "name: value".
std::optional<std::string> Field(const std::string& text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, name)) continue;
    line = absl::StripLeadingAsciiWhitespace(line);
    absl::ConsumePrefix(&line, ":");
    return std::string(absl::StripAsciiWhitespace(line));
  }
  return std::nullopt;
}

std::optional<int64_t> Number(absl::optional<absl::string_view> text) {
  int64_t value = 0;
  if (!text || !absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &value) || value < 0) return std::nullopt;
  return value;
}

std::optional<int64_t> KilobyteField(const std::string& text, absl::string_view name) {
  const std::optional<std::string> value = Field(text, name);
  if (!value) return std::nullopt;
  const std::optional<int64_t> kilobytes = Number(absl::StripSuffix(*value, " kB"));
  if (!kilobytes) return std::nullopt;
  return *kilobytes * 1024;
}

// Lowers the device's memory to the group's limit.
void ApplyGroupLimit(const ControlGroup& group, Device& device) {
  const bool first = group.version == 1;
  const auto read = [&group](absl::string_view name) { return ReadKernelFile(absl::StrCat(group.folder, "/", name)); };
  const std::optional<int64_t> limit = Number(read(first ? "memory.limit_in_bytes" : "memory.max"));
  if (!limit) return;
  const int64_t all = Number(read(first ? "memory.usage_in_bytes" : "memory.current")).value_or(0);
  const std::optional<std::string> cache_text =
      Field(read("memory.stat"), first ? "total_inactive_file" : "inactive_file");
  const int64_t cache = cache_text ? Number(*cache_text).value_or(0) : 0;
  const int64_t used = std::max<int64_t>(0, all - cache);
  device.memory_bytes = std::min(device.memory_bytes, *limit);
  device.available_bytes = std::min(device.available_bytes, std::max<int64_t>(0, *limit - used));
}

}  // namespace

Device ReadCpuDevice(const std::string& root) {
  Device device;
  device.kind = DeviceKind::kCpu;
  device.name = "cpu";
  device.model = Field(ReadKernelFile(root + "/proc/cpuinfo"), "model name").value_or("CPU");
  const std::string meminfo = ReadKernelFile(root + "/proc/meminfo");
  device.memory_bytes = KilobyteField(meminfo, "MemTotal").value_or(0);
  device.available_bytes = KilobyteField(meminfo, "MemAvailable").value_or(device.memory_bytes);

  // A group around a small one may be nearly full, however high its own limit is.
  for (const ControlGroup& group : ControlGroups(root, "memory")) ApplyGroupLimit(group, device);
  return device;
}

}  // namespace causeway
