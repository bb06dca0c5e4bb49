// What a stage leaves in CPU memory or on disk because its device has no room for it: the plan's decision, and its
// price.
#ifndef CAUSEWAY_ENGINE_STRATEGY_OFFLOAD_H_
#define CAUSEWAY_ENGINE_STRATEGY_OFFLOAD_H_

#include <cstdint>
#include <optional>

#include "engine/plan/offload.h"
#include "engine/strategy/fleet.h"

namespace causeway {

// Bytes that CPU memory and disk have room for, of what leaves the device.
int64_t RoomElsewhere(const FleetDevice& device);

// What leaves so that `wanted` bytes of the device are free. Nothing: what may leave, or the room for it, is not
// enough.
std::optional<Offloaded> Offload(HeldPieces held, int64_t wanted, const FleetDevice& device);

// In which a step brings its weights over from where they are, by one thread. Linears come ahead of need, while others
// compute; experts of which a step needs `experts_share` come once the router has spoken, so that nothing hides them.
// Nor is anything hidden of copies that the processor makes which computes.
struct StreamSeconds {
  double hidden = 0, waited_for = 0;
};
StreamSeconds SecondsToStream(const Offloaded& offloaded, double experts_share, const FleetDevice& device);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_OFFLOAD_H_
