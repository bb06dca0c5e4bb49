#include "engine/base/control_group.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/kernel_file.h"

namespace causeway {
namespace {

struct Mount {
  std::string root;   // the group that the mount point shows
  std::string point;  // where it is mounted
};

bool Lists(absl::string_view text, absl::string_view item) {
  const std::vector<absl::string_view> items = absl::StrSplit(text, ',');
  return std::find(items.begin(), items.end(), item) != items.end();
}

// mountinfo writes spaces, tabs, line ends and backslashes as three octal digits.
std::string Unescaped(absl::string_view text) {
  const auto is_octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const absl::string_view digits = text.substr(i + 1, 3);
    if (text[i] == '\\' && digits.size() == 3 && std::all_of(digits.begin(), digits.end(), is_octal)) {
      plain += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// Lists the mounts of the unified hierarchy (version 2), or of the one that has `controller` (version 1). A line is "ID
// parent device root point options [tags] - type source options"; a version 1 hierarchy's last options name its
// controllers.
std::vector<Mount> Mounts(const std::string& root, int version, absl::string_view controller) {
  std::vector<Mount> mounts;
  const std::string text = ReadKernelFile(root + "/proc/self/mountinfo");
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    if (version == 2 ? dash[1] != "cgroup2" : dash[1] != "cgroup" || !Lists(dash[3], controller)) continue;
    mounts.push_back({Unescaped(fields[3]), Unescaped(fields[4])});
  }
  return mounts;
}

// The path of group `path` below the mount point; nothing where the mount does not show it.
std::optional<std::string> PathBelow(const Mount& mount, const std::string& path) {
  if (absl::StartsWith(path, "/..")) return std::nullopt;  // the group lies outside the process's namespace
  if (mount.root == "/") return path == "/" ? "" : path;
  if (path == mount.root) return "";
  if (absl::StartsWith(path, mount.root + "/")) return path.substr(mount.root.size());
  return std::nullopt;
}

void AddUpwards(int version, const std::string& point, std::string below, std::vector<ControlGroup>& groups) {
  for (; !below.empty(); below.resize(below.rfind('/'))) groups.push_back({version, point + below});
  groups.push_back({version, point});
}

}  // namespace

std::vector<ControlGroup> ControlGroups(const std::string& root, absl::string_view controller) {
  std::vector<ControlGroup> groups;
  // Lines of "hierarchy:controllers:path"; version 2 has hierarchy 0 and names no controllers.
  const std::string text = ReadKernelFile(root + "/proc/self/cgroup");
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !absl::StartsWith(parts[2], "/")) continue;
    const int version = parts[0] == "0" && parts[1].empty() ? 2 : 1;
    if (version == 1 && !Lists(parts[1], controller)) continue;
    const std::vector<Mount> mounts = Mounts(root, version, controller);
    bool shown = false;
    for (const Mount& mount : mounts) {
      const std::optional<std::string> below = PathBelow(mount, parts[2]);
      if (!below.has_value()) continue;
      AddUpwards(version, root + mount.point, *below, groups);
      shown = true;
    }
    // The mounts may show the groups of other processes only. The first of them is the one in its usual place.
    if (!shown && !mounts.empty()) AddUpwards(version, root + mounts.front().point, "", groups);
  }
  return groups;
}

}  // namespace causeway
