// Where weights lie that no device holds.
#ifndef CAUSEWAY_ENGINE_PLAN_TIER_H_
#define CAUSEWAY_ENGINE_PLAN_TIER_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace causeway {

enum class Tier : uint8_t { kCpu, kDisk };  // in the order in which they are filled
inline constexpr Tier kTiers[] = {Tier::kCpu, Tier::kDisk};

// "cpu", "disk": as device maps, metrics and reports spell them.
inline const char* TierName(Tier tier) { return tier == Tier::kCpu ? "cpu" : "disk"; }
inline std::optional<Tier> TierNamed(absl::string_view name) {
  for (const Tier tier : kTiers) {
    if (name == TierName(tier)) return tier;
  }
  return std::nullopt;
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_TIER_H_
