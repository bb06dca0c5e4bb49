#include "engine/weights/piece_checksums.h"

#include <cstring>

#include <zlib.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

uint32_t Checksum(absl::Span<const char> bytes) {
  return static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

template <typename T>
void Append(T value, std::string& to) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T Take(absl::string_view& from) {
  T value;
  std::memcpy(&value, from.data(), sizeof(value));
  from.remove_prefix(sizeof(value));
  return value;
}

constexpr size_t kEntryBytes = sizeof(int64_t) + sizeof(uint32_t);  // an offset and its checksum

}  // namespace

void PieceChecksums::Add(int64_t offset, absl::Span<const char> bytes) {
  for (; !bytes.empty(); offset += kPieceBytes) {
    const absl::Span<const char> piece = bytes.first(std::min<size_t>(bytes.size(), kPieceBytes));
    pieces_.try_emplace(offset, Checksum(piece));
    bytes.remove_prefix(piece.size());
  }
}

std::string PieceChecksums::Encode() const {
  std::string encoded;
  for (const auto& [offset, piece] : pieces_) {
    Append(offset, encoded);
    Append(piece.checksum, encoded);
  }
  Append(Checksum(encoded), encoded);
  return encoded;
}

bool PieceChecksums::Decode(absl::string_view encoded) {
  if (encoded.size() % kEntryBytes != sizeof(uint32_t)) return false;
  absl::string_view end = encoded.substr(encoded.size() - sizeof(uint32_t));
  encoded.remove_suffix(sizeof(uint32_t));
  if (Take<uint32_t>(end) != Checksum(encoded)) return false;
  pieces_.clear();
  while (!encoded.empty()) {
    const int64_t offset = Take<int64_t>(encoded);
    pieces_.try_emplace(offset, Take<uint32_t>(encoded));
  }
  return true;
}

absl::Status PieceChecksums::Check(int64_t offset, absl::Span<const char> bytes, int64_t written) const {
  for (; !bytes.empty(); offset += kPieceBytes) {
    const absl::Span<const char> piece = bytes.first(std::min<size_t>(bytes.size(), kPieceBytes));
    bytes.remove_prefix(piece.size());
    const auto found = pieces_.find(offset);
    if (found == pieces_.end())
      return absl::InternalError(absl::StrCat("no piece was written at byte ", offset, " of the data"));
    if (found->second.checked.load(std::memory_order_relaxed) == written) continue;
    if (Checksum(piece) != found->second.checksum) {
      return absl::DataLossError(absl::StrCat("bytes ", offset, " to ", offset + static_cast<int64_t>(piece.size()),
                                              " of the data are not those that were written"));
    }
    found->second.checked.store(written, std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

}  // namespace causeway
