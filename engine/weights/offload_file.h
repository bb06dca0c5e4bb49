// Packed weights on disk: written once, found again by later runs, read past the page cache. The file is a header that
// says what is in it, the data, and the checksums of its pieces.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_OFFLOAD_FILE_H_
#define CAUSEWAY_ENGINE_WEIGHTS_OFFLOAD_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/weights/direct_file.h"
#include "engine/weights/piece_checksums.h"

namespace causeway {

class OffloadFile {
 public:
  // Offsets, sizes and memory addresses are multiples of this.
  static constexpr int64_t kAlignment = DirectFile::kAlignment;

  // A file of `bytes` in `folder`, named after `contents`, which says all that decides what is in it: runs that say the
  // same share the file, unless `reuse` is false: then it is written anew. NotFound, PermissionDenied: no folder that
  // can be written to. ResourceExhausted: the disk has too little space. The message names the folder.
  static absl::StatusOr<std::unique_ptr<OffloadFile>> Open(const std::string& folder, const std::string& contents,
                                                           int64_t bytes, bool reuse);
  // NotFound or InvalidArgument where it is no folder; the message names it.
  static absl::Status CheckFolder(const std::string& folder);
  ~OffloadFile();  // an unfinished file is removed
  OffloadFile(const OffloadFile&) = delete;
  OffloadFile& operator=(const OffloadFile&) = delete;

  // Whether it can be read: an earlier run finished it, or Finish has been called. Else it is to be written.
  bool complete() const { return complete_.has_value(); }
  absl::Status Write(int64_t offset, absl::Span<const char> bytes);
  // Puts it in its place, whole or not at all.
  absl::Status Finish();

  // Any thread. `to` is what one Write took, or whole pieces of it (PieceChecksums::kPieceBytes). DataLoss: the file
  // has become shorter, holds other bytes than were written, or the disk failed; the message names it. A file that
  // holds other bytes is removed, so that the next start writes it anew.
  absl::Status Read(int64_t offset, absl::Span<char> to) const;

  const std::string& path() const { return path_; }

 private:
  OffloadFile(std::string path, std::string contents, int64_t bytes);
  absl::Status OpenComplete();
  absl::Status Begin(const std::string& folder);
  absl::Status WriteAt(int64_t at, absl::Span<const char> bytes);

  const std::string path_, header_;  // the header lies before the data
  const int64_t bytes_;
  PieceChecksums checksums_;  // of the data
  std::string temporary_;     // while it is written
  int descriptor_ = -1;       // of that
  std::optional<DirectFile> complete_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_OFFLOAD_FILE_H_
