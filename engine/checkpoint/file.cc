#include "engine/checkpoint/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {

absl::StatusOr<File> File::Open(const std::string& path) {
  // O_NONBLOCK: a pipe put where a file is expected must not hang the start. It has no effect on regular files.
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat info;
  if (::fstat(descriptor, &info) != 0) {
    absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("cannot stat ", path));
    ::close(descriptor);
    return status;
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return File(descriptor, static_cast<uint64_t>(info.st_size));
}

File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), bytes_(other.bytes_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

absl::Status ReadExactly(int descriptor, uint64_t offset, absl::Span<char> destination, absl::string_view what,
                         PreadFunction read) {
  if (read == nullptr) read = ::pread;
  constexpr size_t kChunk = size_t{1} << 30;  // Linux reads no more than 2 GiB at once
  size_t done = 0;
  while (done < destination.size()) {
    const size_t wanted = std::min(destination.size() - done, kChunk);
    const ssize_t got = read(descriptor, destination.data() + done, wanted, static_cast<off_t>(offset + done));
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got == 0) {
      return absl::DataLossError(absl::StrCat(what, ": the file ends at byte ", offset + done, ", expected ",
                                              destination.size() - done,
                                              " more bytes; it has become shorter since it was opened"));
    } else if (errno != EINTR) {
      return absl::DataLossError(absl::StrCat(what, ": reading ", wanted, " bytes at byte ", offset + done,
                                              " failed: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max) {
  CAUSEWAY_ASSIGN_OR_RETURN(File file, File::Open(path));
  if (file.bytes() > bytes_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " has ", file.bytes(), " bytes; at most ", bytes_max, " are read"));
  }
  std::string text(file.bytes(), '\0');
  CAUSEWAY_RETURN_IF_ERROR(ReadExactly(file.descriptor(), 0, absl::MakeSpan(&text[0], text.size()), path));
  CAUSEWAY_RETURN_IF_ERROR(CheckNoLfsPointer(text, path));
  return text;
}

absl::Status CheckNoLfsPointer(absl::string_view first, absl::string_view path) {
  if (!absl::StartsWith(first, "version https://git-lfs")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": a Git LFS pointer in place of the file; fetch it with `git lfs pull` in the model's folder"));
}

}  // namespace causeway
