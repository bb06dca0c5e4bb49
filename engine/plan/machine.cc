#include "engine/plan/machine.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace causeway {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

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

struct GroupFiles {
  std::string limit, used, cache_field;
};

// Lowers the device's memory to the limits of the group `path` and of those around it, below the mount point `base`.
void ApplyGroupLimits(const std::string& base, std::string path, const GroupFiles& files, Device& device) {
  while (true) {
    const std::string folder = absl::StrCat(base, path == "/" ? "" : path, "/");
    // A group around a small one may be nearly full, however high its own limit is.
    if (const std::optional<int64_t> limit = Number(ReadText(folder + files.limit))) {
      const std::string stat = ReadText(folder + "memory.stat");
      const std::optional<std::string> cache_text = Field(stat, files.cache_field);
      const int64_t cache = cache_text ? Number(*cache_text).value_or(0) : 0;
      const int64_t used = std::max<int64_t>(0, Number(ReadText(folder + files.used)).value_or(0) - cache);
      device.memory_bytes = std::min(device.memory_bytes, *limit);
      device.available_bytes = std::min(device.available_bytes, std::max<int64_t>(0, *limit - used));
    }
    if (path.empty() || path == "/") return;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

Device ReadCpuDevice(const std::string& root) {
  Device device;
  device.kind = DeviceKind::kCpu;
  device.name = "cpu";
  device.model = Field(ReadText(root + "/proc/cpuinfo"), "model name").value_or("CPU");
  const std::string meminfo = ReadText(root + "/proc/meminfo");
  device.memory_bytes = KilobyteField(meminfo, "MemTotal").value_or(0);
  device.available_bytes = KilobyteField(meminfo, "MemAvailable").value_or(device.memory_bytes);

  // Lines of "hierarchy:controllers:path"; version 2 has hierarchy 0 and names no controllers.
  for (absl::string_view line : absl::StrSplit(ReadText(root + "/proc/self/cgroup"), '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !absl::StartsWith(parts[2], "/")) continue;
    if (parts[0] == "0" && parts[1].empty()) {
      ApplyGroupLimits(root + "/sys/fs/cgroup", parts[2], {"memory.max", "memory.current", "inactive_file"}, device);
    }
    const std::vector<absl::string_view> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      ApplyGroupLimits(root + "/sys/fs/cgroup/memory", parts[2],
                       {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}, device);
    }
  }
  return device;
}

}  // namespace causeway
