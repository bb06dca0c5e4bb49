// What a stage leaves in CPU memory or on disk because its device has no room for it.
#ifndef CAUSEWAY_ENGINE_STRATEGY_OFFLOAD_H_
#define CAUSEWAY_ENGINE_STRATEGY_OFFLOAD_H_

#include <cstdint>
#include <optional>

#include "engine/strategy/fleet.h"
#include "engine/strategy/work.h"

namespace causeway {

// Of one rank.
struct Offloaded {
  int64_t bytes = 0;    // in all
  int64_t experts = 0;  // of these, those of experts: streamed when a token goes there
  int64_t linears = 0;  // and those that every step streams; the rest are tables, of which a step reads rows
  int64_t staging = 0;  // the buffer that they come through, on the device
  int64_t on_disk = 0;  // of `bytes`: what the device's share of CPU memory has no room for
};

// The least that frees `wanted` bytes of the device, kind by kind as the plan does. Nothing: what may leave, or the
// memory for it, is not enough.
std::optional<Offloaded> Offload(const OffloadableByKind& from, int64_t wanted, const FleetDevice& device);
// The most bytes for which Offload finds something, at least 0.
int64_t MostFreed(const OffloadableByKind& from, const FleetDevice& device);

// In which a step brings its weights over from where they are, by one thread. Linears come ahead of need, while others
// compute; experts of which a step needs `experts_share` come once the router has spoken, so that nothing hides them.
// Nor is anything hidden of copies that the processor makes which computes.
struct StreamSeconds {
  double hidden = 0, waited_for = 0;
};
StreamSeconds SecondsToStream(const Offloaded& offloaded, double experts_share, const FleetDevice& device);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_OFFLOAD_H_
