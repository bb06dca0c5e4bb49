// Checksums (CRC-32) of a file's pieces, kept in the file itself, so that bytes which are not those that were written
// are noticed before anything is computed from them.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_PIECE_CHECKSUMS_H_
#define CAUSEWAY_ENGINE_WEIGHTS_PIECE_CHECKSUMS_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

class PieceChecksums {
 public:
  // What is written at once is cut into pieces of this many bytes from its start. The last one may be shorter.
  static constexpr int64_t kPieceBytes = int64_t{8} << 20;

  // Notes the checksums of what is written at `offset`.
  void Add(int64_t offset, absl::Span<const char> bytes);

  // As text of bytes, and back: false where it is not what Encode gave.
  std::string Encode() const;
  bool Decode(absl::string_view encoded);

  // Compares `bytes`, whole pieces that were read at `offset` of the file as it was last written to at `written`. A
  // piece is compared once for each such time. DataLoss names the bytes. Any thread.
  absl::Status Check(int64_t offset, absl::Span<const char> bytes, int64_t written) const;

 private:
  struct Piece {
    explicit Piece(uint32_t sum) : checksum(sum) {}
    const uint32_t checksum;
    mutable std::atomic<int64_t> checked{-1};  // the time of writing for which it was found to be right
  };
  std::map<int64_t, Piece> pieces_;  // by offset
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_PIECE_CHECKSUMS_H_
