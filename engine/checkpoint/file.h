// Reads files of a model folder: whole small ones, and exact ranges of large ones.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_FILE_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

// An open file descriptor, closed at the end.
class File {
 public:
  // NotFound: nothing is there. InvalidArgument: not a regular file (symbolic links are followed). Other errors are the
  // system's.
  static absl::StatusOr<File> Open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  int descriptor() const { return descriptor_; }
  uint64_t bytes() const { return bytes_; }  // the size when it was opened

 private:
  File(int descriptor, uint64_t bytes) : descriptor_(descriptor), bytes_(bytes) {}
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
};

// pread(2), or what a test puts in its place.
using PreadFunction = ssize_t (*)(int descriptor, void* destination, size_t bytes, off_t offset);

// Fills `destination` from the file's byte `offset` on, through interrupted and short reads. DataLoss when the file
// ends before that or the device fails; `what` begins the message.
absl::Status ReadExactly(int descriptor, uint64_t offset, absl::Span<char> destination, absl::string_view what,
                         PreadFunction read = nullptr);

// InvalidArgument where the file that begins so is a Git LFS pointer, which a clone without LFS leaves in its place.
absl::Status CheckNoLfsPointer(absl::string_view first, absl::string_view path);

// The whole file. NotFound; ResourceExhausted above `bytes_max`; a Git LFS pointer is refused.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_FILE_H_
