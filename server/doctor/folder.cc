#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/measure/file_bandwidth.h"
#include "server/doctor/doctor.h"

namespace causeway {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr double kSlowDisk = 0.5e9;  // bytes a second; a layer of an 8 B model takes most of a second

// A kind of file system, and what is wrong with keeping weights there; empty where nothing is.
struct FileSystem {
  int64_t magic;
  const char* name;
  const char* remedy;
};
constexpr char kInMemory[] = "it is in memory, which offload is to spare: name a folder on a disk";
constexpr char kOverNetwork[] =
    "it is reached over a network, and every step would wait for it: name a folder on a disk of this machine";
constexpr FileSystem kFileSystems[] = {
    {0xEF53, "ext4", ""},
    {0x58465342, "xfs", ""},
    {0x9123683E, "btrfs", ""},
    {0x2FC12FC1, "zfs", ""},
    {0xF2F52010, "f2fs", ""},
    {0x01021994, "tmpfs", kInMemory},
    {0x858458F6, "ramfs", kInMemory},
    {0x794C7630, "overlay",
     "it is a container's own layer, slower than a disk and gone with the container: mount a folder of the host there"},
    {0x6969, "nfs", kOverNetwork},
    {0xFE534D42, "smb", kOverNetwork},
    {0xFF534D42, "cifs", kOverNetwork},
    {0x517B, "smb", kOverNetwork},
    {0x00C36400, "ceph", kOverNetwork},
    {0x0BD00BD0, "lustre", kOverNetwork},
    {0x01021997, "9p",
     "it belongs to the machine around this one and goes through it: name a folder on a disk of this machine"},
    {0x65735546, "fuse", "a program serves it, perhaps over a network: name a folder on a disk of this machine"},
};

FileSystem FileSystemOf(const std::string& folder) {
  struct statfs info{};
  if (::statfs(folder.c_str(), &info) != 0) return {0, "unknown", ""};
  const auto magic = static_cast<int64_t>(static_cast<uint32_t>(info.f_type));
  const auto* found = std::find_if(std::begin(kFileSystems), std::end(kFileSystems),
                                   [magic](const FileSystem& known) { return known.magic == magic; });
  return found != std::end(kFileSystems) ? *found : FileSystem{magic, "another file system", ""};
}

}  // namespace

Finding ExamineOffloadFolder(const std::string& folder, int64_t sample_bytes) {
  const auto problem = [](std::string found, std::string remedy) {
    return Finding{"offload folder", Grade::kProblem, std::move(found), std::move(remedy)};
  };
  std::error_code error;
  if (!std::filesystem::exists(folder, error))
    return problem(absl::StrCat(folder, " is not there"), absl::StrCat("mkdir -p ", folder));
  if (!std::filesystem::is_directory(folder, error))
    return problem(absl::StrCat(folder, " is no folder"), "name a folder");
  struct statvfs room{};
  const int64_t free = ::statvfs(folder.c_str(), &room) == 0 ? static_cast<int64_t>(room.f_bavail * room.f_frsize) : 0;
  const int64_t bytes = std::min(sample_bytes, free / 4) / kPieceBytes * kPieceBytes;
  if (bytes == 0)
    return problem(absl::StrCat(folder, " has ", FormatBytes(free), " free"),
                   "make room there, or name a folder on another disk");
  const absl::StatusOr<FolderBandwidth> speed = MeasureFolderBandwidth(folder, bytes);
  if (!speed.ok())
    return problem(std::string(speed.status().message()),
                   "let the daemon's user write there (chown), or name another folder");

  const FileSystem system = FileSystemOf(folder);
  Finding finding{
      "offload folder", Grade::kGood,
      absl::StrFormat("%s: %s, %s free, %.2f GB/s written, %.2f GB/s read%s", folder, system.name, FormatBytes(free),
                      speed->write / 1e9, speed->read / 1e9, speed->direct ? "" : ", perhaps out of memory"),
      system.remedy};
  if (finding.remedy.empty() && speed->read < kSlowDisk)
    finding.remedy = "a step waits until its weights are read: name a folder on a faster disk";
  if (!finding.remedy.empty()) finding.grade = Grade::kAdvice;
  return finding;
}

}  // namespace causeway
