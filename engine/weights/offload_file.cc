#include "engine/weights/offload_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status.h"
#include "engine/checkpoint/file.h"
#include "engine/plan/device.h"

namespace causeway {
namespace {

constexpr int64_t kWriteBytes = int64_t{8} << 20;
constexpr int64_t kChecksumsMax = int64_t{64} << 20;  // of 40 TB of weights in whole pieces

int64_t RoundUp(int64_t n) {
  return (n + OffloadFile::kAlignment - 1) / OffloadFile::kAlignment * OffloadFile::kAlignment;
}

// FNV-1a: a name. That the contents are the same is checked by the whole text.
uint64_t Hash(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

absl::Status Failed(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("offload: ", what, " ", path));
}

// What starts that were killed have left of a file: its writer holds a lock as long as it lives.
void RemoveAbandoned(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole(path);
  for (const auto& entry : std::filesystem::directory_iterator(whole.parent_path(), error)) {
    const std::string name = entry.path().filename().string(), begin = whole.filename().string() + ".";
    if (name.size() != begin.size() + 6 || !absl::StartsWith(name, begin)) continue;
    const int descriptor = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(entry.path().c_str());
    ::close(descriptor);
  }
}

std::string MakeHeader(const std::string& contents) {
  std::string header = absl::StrCat("causeway packed weights ", contents.size(), "\n", contents);
  header.resize(RoundUp(static_cast<int64_t>(header.size())), '\0');
  return header;
}

}  // namespace

OffloadFile::OffloadFile(std::string path, std::string contents, int64_t bytes)
    : path_(std::move(path)), header_(MakeHeader(contents)), bytes_(RoundUp(bytes)) {}

OffloadFile::~OffloadFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

absl::Status OffloadFile::CheckFolder(const std::string& folder) {
  struct stat entry;
  if (::stat(folder.c_str(), &entry) != 0) return Failed("folder", folder);
  if (!S_ISDIR(entry.st_mode)) return absl::InvalidArgumentError(absl::StrCat("offload: ", folder, " is not a folder"));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<OffloadFile>> OffloadFile::Open(const std::string& folder, const std::string& contents,
                                                               int64_t bytes, bool reuse) {
  CAUSEWAY_RETURN_IF_ERROR(CheckFolder(folder));
  const std::string path = absl::StrFormat("%s/%016x.weights", folder, Hash(contents));
  std::unique_ptr<OffloadFile> file(new OffloadFile(path, contents, bytes));
  RemoveAbandoned(path);
  if (!reuse) ::unlink(path.c_str());  // who still reads it keeps it
  CAUSEWAY_RETURN_IF_ERROR(file->OpenComplete());
  if (!file->complete()) CAUSEWAY_RETURN_IF_ERROR(file->Begin(folder));
  return file;
}

// Leaves it as it is where there is no such file, or another one of its name: that will be replaced.
absl::Status OffloadFile::OpenComplete() {
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return absl::OkStatus();
  struct stat entry = {};
  ::fstat(descriptor, &entry);
  const int64_t data_end = static_cast<int64_t>(header_.size()) + bytes_;
  std::string header(header_.size(), '\0'), checksums;
  checksums.resize(std::clamp(entry.st_size - data_end, int64_t{0}, kChecksumsMax));
  const bool same = ReadExactly(descriptor, 0, absl::MakeSpan(header.data(), header.size()), path_).ok() &&
                    header == header_ &&
                    ReadExactly(descriptor, data_end, absl::MakeSpan(checksums.data(), checksums.size()), path_).ok() &&
                    checksums_.Decode(checksums);
  ::close(descriptor);
  if (!same) return absl::OkStatus();
  CAUSEWAY_ASSIGN_OR_RETURN(complete_, DirectFile::Open(path_));
  return absl::OkStatus();
}

absl::Status OffloadFile::Begin(const std::string& folder) {
  const int64_t total = static_cast<int64_t>(header_.size()) + bytes_;
  struct statvfs space;
  if (::statvfs(folder.c_str(), &space) == 0) {
    const int64_t available = static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
    if (available < total) {
      return absl::ResourceExhaustedError(absl::StrCat("offload: ", folder, " has ", FormatBytes(available),
                                                       " free, and the weights need ", FormatBytes(total),
                                                       "; free some, or set offload_folder to a larger disk"));
    }
  }
  std::string temporary = absl::StrCat(path_, ".XXXXXX");
  descriptor_ = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor_ < 0) return Failed("cannot write to", folder);
  temporary_ = temporary;
  ::flock(descriptor_, LOCK_EX | LOCK_NB);  // nobody else's yet
  // All of its space now, rather than an error when half is written.
  if (const int error = ::posix_fallocate(descriptor_, 0, total);
      error != 0 && error != EOPNOTSUPP && error != EINVAL) {
    errno = error;
    return Failed(absl::StrCat("no ", FormatBytes(total), " for"), temporary_);
  }
  return WriteAt(0, header_);
}

absl::Status OffloadFile::Write(int64_t offset, absl::Span<const char> bytes) {
  checksums_.Add(offset, bytes);
  return WriteAt(static_cast<int64_t>(header_.size()) + offset, bytes);
}

absl::Status OffloadFile::WriteAt(int64_t at, absl::Span<const char> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), std::min<size_t>(bytes.size(), kWriteBytes), at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("cannot write", temporary_);
    // Out of the page cache soon: these pages are nobody's to read.
    ::sync_file_range(descriptor_, at, written, SYNC_FILE_RANGE_WRITE);
    bytes.remove_prefix(written);
    at += written;
  }
  return absl::OkStatus();
}

absl::Status OffloadFile::Finish() {
  CAUSEWAY_RETURN_IF_ERROR(WriteAt(static_cast<int64_t>(header_.size()) + bytes_, checksums_.Encode()));
  if (::fsync(descriptor_) != 0) return Failed("cannot write", temporary_);
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return Failed("cannot rename to", path_);
  temporary_.clear();
  ::close(std::exchange(descriptor_, -1));
  CAUSEWAY_RETURN_IF_ERROR(OpenComplete());
  if (!complete()) return absl::DataLossError(absl::StrCat("offload: ", path_, " is not what was just written to it"));
  return absl::OkStatus();
}

absl::Status OffloadFile::Read(int64_t offset, absl::Span<char> to) const {
  const int64_t written = complete_->Written();
  CAUSEWAY_RETURN_IF_ERROR(complete_->Read(static_cast<int64_t>(header_.size()) + offset, to));
  const absl::Status status = checksums_.Check(offset, to, written);
  if (status.ok()) return status;
  ::unlink(path_.c_str());
  return absl::Status(status.code(), absl::StrCat("offload: ", path_, ": ", status.message(),
                                                  "; it was removed, start again to have it written anew"));
}

}  // namespace causeway
