#include "engine/weights/weight_store.h"

#include <algorithm>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

constexpr int64_t kPieceBytes = PieceChecksums::kPieceBytes;  // those of the packed file, since it checks whole ones

absl::Status InPieces(int64_t bytes, absl::FunctionRef<absl::Status(int64_t done, int64_t bytes)> copy) {
  for (int64_t done = 0; done < bytes; done += kPieceBytes)
    CAUSEWAY_RETURN_IF_ERROR(copy(done, std::min(kPieceBytes, bytes - done)));
  return absl::OkStatus();
}

}  // namespace

absl::Status WeightStore::Open(const std::vector<Place*>& places, const Checkpoint& checkpoint,
                               const std::string& folder, const std::string& contents, bool reuse) {
  int64_t packed_bytes = 0;
  std::string all = absl::StrCat(contents, "\ndevice ", runtime_.name(), "\n");
  const bool on_disk = std::any_of(places.begin(), places.end(), [](const Place* place) { return place->on_disk; });
  if (on_disk)
    CAUSEWAY_RETURN_IF_ERROR(
        OffloadFile::CheckFolder(folder));  // also where nothing is packed: who named it should know
  for (Place* place : places) {
    if (!place->on_disk) {
      place->host = runtime_.AllocateHost(place->bytes);
    } else if (place->stored.empty()) {
      place->offset = std::exchange(packed_bytes, packed_bytes + place->bytes);
      absl::StrAppend(&all, place->name, " ", place->bytes, "\n");
    }
    for (const StoredPiece& piece : place->stored) {
      if (checkpoint_files_.count(piece.from.file) > 0) continue;
      CAUSEWAY_ASSIGN_OR_RETURN(DirectFile file, DirectFile::Reopen(checkpoint.descriptor(piece.from.file),
                                                                    checkpoint.files()[piece.from.file]));
      checkpoint_files_.emplace(piece.from.file, std::move(file));
    }
  }
  if (packed_bytes > 0) {
    CAUSEWAY_ASSIGN_OR_RETURN(packed_, OffloadFile::Open(folder, all, packed_bytes, reuse));
    writing_ = !packed_->complete();
  }
  // Files are not read into a device's own memory, nor across blocks.
  if (!checkpoint_files_.empty() || (packed_ != nullptr && !runtime_.in_host_memory())) {
    pinned_ = runtime_.AllocateHost(kPieceBytes + 3 * DirectFile::kAlignment);
    piece_ = DirectFile::Aligned(static_cast<char*>(pinned_.mutable_data_ptr()));
  }
  return absl::OkStatus();
}

absl::Status WeightStore::Put(const Place& place, const char* from) {
  if (Filled(place)) return absl::OkStatus();
  if (!place.on_disk) {
    runtime_.CopyToHost(place.host.mutable_data_ptr(), from, place.bytes);
    return absl::OkStatus();
  }
  if (runtime_.in_host_memory()) return packed_->Write(place.offset, absl::MakeConstSpan(from, place.bytes));
  return InPieces(place.bytes, [&](int64_t done, int64_t bytes) {
    runtime_.CopyToHost(piece_, from + done, bytes);
    return packed_->Write(place.offset + done, absl::MakeConstSpan(piece_, bytes));
  });
}

absl::Status WeightStore::Finish() { return std::exchange(writing_, false) ? packed_->Finish() : absl::OkStatus(); }

absl::Status WeightStore::Get(const Place& place, char* to) {
  if (!place.on_disk) {
    runtime_.CopyFromHost(to, place.host.const_data_ptr(), place.bytes);
    return absl::OkStatus();
  }
  if (place.stored.empty() && runtime_.in_host_memory())
    return packed_->Read(place.offset, absl::MakeSpan(to, place.bytes));
  if (place.stored.empty()) {
    return InPieces(place.bytes, [&](int64_t done, int64_t bytes) -> absl::Status {
      CAUSEWAY_RETURN_IF_ERROR(packed_->Read(place.offset + done, absl::MakeSpan(piece_, bytes)));
      runtime_.CopyFromHost(to + done, piece_, bytes);
      return absl::OkStatus();
    });
  }
  for (const StoredPiece& piece : place.stored) {
    const DirectFile& file = checkpoint_files_.at(piece.from.file);
    CAUSEWAY_RETURN_IF_ERROR(InPieces(piece.from.bytes, [&](int64_t done, int64_t bytes) -> absl::Status {
      const absl::Span<char> room(piece_, bytes + 2 * DirectFile::kAlignment);
      CAUSEWAY_ASSIGN_OR_RETURN(const char* read, file.ReadAround(piece.from.offset + done, bytes, room));
      runtime_.CopyFromHost(to + piece.to + done, read, bytes);
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

}  // namespace causeway
