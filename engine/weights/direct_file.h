// A file read past the page cache, where its file system can.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_DIRECT_FILE_H_
#define CAUSEWAY_ENGINE_WEIGHTS_DIRECT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace causeway {

// Immutable: any thread.
class DirectFile {
 public:
  // Of offsets, sizes and memory in Read, and of memory in ReadAround.
  static constexpr int64_t kAlignment = 4096;
  // The first such address from here on.
  static char* Aligned(char* memory) {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory) + kAlignment - 1) / kAlignment * kAlignment);
  }

  static absl::StatusOr<DirectFile> Open(const std::string& path);
  // The file that is open as `descriptor`, whatever its path leads to by now. From here on its data must stay as it is.
  static absl::StatusOr<DirectFile> Reopen(int descriptor, const std::string& path);
  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&& other) noexcept;
  ~DirectFile();

  // DataLoss: the file has become shorter, or the disk failed; the message names it.
  absl::Status Read(int64_t offset, absl::Span<char> to) const;
  // Bytes from anywhere: the blocks around them are read into `room`, which must be 2 kAlignment larger than they are.
  // Where they lie there. Errors as above; also DataLoss: the file was reopened and has been written to since.
  absl::StatusOr<const char*> ReadAround(int64_t offset, int64_t bytes, absl::Span<char> room) const;
  // When it was last written to, in nanoseconds since 1970.
  int64_t Written() const;

 private:
  DirectFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;
  int64_t written_ = -1;  // when it was reopened; -1: it was not
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_DIRECT_FILE_H_
