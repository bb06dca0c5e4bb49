#include "engine/weights/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/file.h"

namespace causeway {
namespace {

// Some file systems take O_DIRECT and fail at the first read.
bool ReadsDirectly(int descriptor) {
  alignas(DirectFile::kAlignment) char block[DirectFile::kAlignment];
  return ::pread(descriptor, block, sizeof(block), 0) >= 0;
}

// Where there are no direct reads (tmpfs), the page cache is in the way and nothing else.
int OpenDirect(const std::string& path) {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (descriptor >= 0 && !ReadsDirectly(descriptor)) ::close(std::exchange(descriptor, -1));
  return descriptor >= 0 ? descriptor : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
}

}  // namespace

absl::StatusOr<DirectFile> DirectFile::Open(const std::string& path) {
  const int descriptor = OpenDirect(path);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("offload: cannot read ", path));
  return DirectFile(path, descriptor);
}

absl::StatusOr<DirectFile> DirectFile::Reopen(int descriptor, const std::string& path) {
  const int again = OpenDirect(absl::StrCat("/proc/self/fd/", descriptor));
  if (again < 0) return absl::ErrnoToStatus(errno, absl::StrCat("offload: cannot read ", path));
  DirectFile file(path, again);
  file.written_ = file.Written();
  return file;
}

int64_t DirectFile::Written() const {
  struct stat entry = {};
  ::fstat(descriptor_, &entry);
  return entry.st_mtim.tv_sec * 1'000'000'000 + entry.st_mtim.tv_nsec;
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), written_(other.written_) {}

DirectFile& DirectFile::operator=(DirectFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(written_, other.written_);
  return *this;
}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

absl::Status DirectFile::Read(int64_t offset, absl::Span<char> to) const {
  return ReadExactly(descriptor_, offset, to, absl::StrCat("offload: ", path_));
}

absl::StatusOr<const char*> DirectFile::ReadAround(int64_t offset, int64_t bytes, absl::Span<char> room) const {
  const int64_t skipped = offset % kAlignment, wanted = skipped + bytes;
  const int64_t blocks = (wanted + kAlignment - 1) / kAlignment * kAlignment;
  int64_t done = 0;
  while (done < wanted) {
    const int64_t from = done / kAlignment * kAlignment, at = offset - skipped + from;
    const ssize_t got = ::pread(descriptor_, room.data() + from, blocks - from, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return absl::DataLossError(
          absl::StrCat("offload: ", path_, ": reading at byte ", at, " failed: ", std::strerror(errno)));
    if (from + got <= done) {
      return absl::DataLossError(absl::StrCat("offload: ", path_, ": the file ends at byte ", offset - skipped + done,
                                              ", expected ", wanted - done,
                                              " more bytes; it has become shorter since it was opened"));
    }
    done = from + got;
  }
  if (written_ >= 0 && Written() != written_) {
    return absl::DataLossError(absl::StrCat(
        "offload: ", path_,
        " has been written to since the model was loaded from it; start again to serve what is in it now"));
  }
  return room.data() + skipped;
}

}  // namespace causeway
