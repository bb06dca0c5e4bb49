#include "engine/strategy/offload.h"

#include <limits>

namespace causeway {

int64_t RoomElsewhere(const FleetDevice& device) {
  return device.disk_bytes_per_second > 0 ? std::numeric_limits<int64_t>::max() : device.cpu_bytes;
}

std::optional<Offloaded> Offload(HeldPieces held, int64_t wanted, const FleetDevice& device) {
  const Eviction eviction = Evict(held, wanted);
  if (eviction.freed < wanted) return std::nullopt;
  TierFiller tiers(device.cpu_bytes);
  const Offloaded offloaded = SumOf(held, eviction, tiers);
  if (offloaded.on_disk > 0 && device.disk_bytes_per_second <= 0) return std::nullopt;
  return offloaded;
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
