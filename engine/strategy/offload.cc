#include "engine/strategy/offload.h"

#include <algorithm>
#include <limits>

#include "engine/plan/offload.h"

namespace causeway {
namespace {

constexpr int64_t kPage = 4096;  // that the buffer begins at

// Kind by kind: how much may leave so far, and through which buffer.
class Leaving {
 public:
  Leaving(const OffloadableByKind& from, const FleetDevice& device)
      : from_(from), room_(device.disk_bytes_per_second > 0 ? std::numeric_limits<int64_t>::max() : device.cpu_bytes) {}

  // Of the kind that is next: the buffer that it asks for, and the pieces for which there is memory elsewhere.
  int64_t Staging() {
    streamed_.Add(from_[kind_].bytes > 0 ? Offloadable{.largest = from_[kind_].largest, .second = from_[kind_].second}
                                         : Offloadable());
    const int64_t buffer = streamed_.largest + streamed_.second;
    return buffer == 0 ? 0 : buffer + kPage;
  }
  int64_t PiecesWithRoom() const {
    const Offloadable& now = from_[kind_];
    if (now.streamed == 0 || now.streamed <= room_) return now.pieces;
    return static_cast<int64_t>(static_cast<double>(room_) / static_cast<double>(now.streamed) *
                                static_cast<double>(now.pieces));
  }
  int64_t BytesOf(int64_t pieces) const {
    return from_[kind_].pieces == 0 ? 0 : from_[kind_].bytes / from_[kind_].pieces * pieces;
  }
  bool Next() {
    const int64_t all = BytesOf(from_[kind_].pieces);
    if (PiecesWithRoom() < from_[kind_].pieces) return false;
    gone += all;
    room_ -= from_[kind_].streamed;
    return ++kind_ < from_.size();
  }
  OffloadPiece::Kind kind() const { return static_cast<OffloadPiece::Kind>(kind_); }

  int64_t gone = 0;  // of the kinds before, all of which left

 private:
  const OffloadableByKind& from_;
  int64_t room_;
  size_t kind_ = 0;
  Offloadable streamed_;
};

}  // namespace

std::optional<Offloaded> Offload(const OffloadableByKind& from, int64_t wanted, const FleetDevice& device) {
  if (wanted <= 0) return Offloaded();
  Offloaded offloaded;
  Leaving leaving(from, device);
  do {
    offloaded.staging = leaving.Staging();
    const int64_t each = leaving.BytesOf(1), needed = std::max<int64_t>(0, wanted + offloaded.staging - leaving.gone),
                  room = leaving.PiecesWithRoom();
    const bool enough = needed <= each * room;
    const int64_t bytes = each * (enough && each > 0 ? (needed + each - 1) / each : room);
    offloaded.bytes += bytes;
    if (leaving.kind() == OffloadPiece::Kind::kExpert) offloaded.experts += bytes;
    if (leaving.kind() > OffloadPiece::Kind::kExpert) offloaded.linears += bytes;
    if (!enough) continue;
    if (device.disk_bytes_per_second > 0) offloaded.on_disk = std::max<int64_t>(0, offloaded.bytes - device.cpu_bytes);
    return offloaded;
  } while (leaving.Next());
  return std::nullopt;
}

int64_t MostFreed(const OffloadableByKind& from, const FleetDevice& device) {
  int64_t most = 0;
  Leaving leaving(from, device);
  do {
    const int64_t staging = leaving.Staging();
    most = std::max(most, leaving.gone + leaving.BytesOf(leaving.PiecesWithRoom()) - staging);
  } while (leaving.Next());
  return most;
}

StreamSeconds SecondsToStream(const Offloaded& offloaded, double experts_share, const FleetDevice& device) {
  if (offloaded.bytes == 0) return {};
  const double on_disk = static_cast<double>(offloaded.on_disk) / static_cast<double>(offloaded.bytes);
  const double from_cpu = (1 - on_disk) / device.cpu_bytes_per_second,
               from_disk = on_disk > 0 ? on_disk / device.disk_bytes_per_second : 0;
  const double linears = static_cast<double>(offloaded.linears),
               experts = experts_share * static_cast<double>(offloaded.experts);
  const bool computes_and_copies = ComputesOnCpu(device.device.kind);
  return {.hidden = linears * (from_disk + (computes_and_copies ? 0 : from_cpu)),
          .waited_for = experts * (from_cpu + from_disk) + (computes_and_copies ? linears * from_cpu : 0)};
}

}  // namespace causeway
