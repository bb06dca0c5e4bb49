// Which weights may leave the device that computes from them, and where they lie then.
#ifndef CAUSEWAY_ENGINE_PLAN_TIER_H_
#define CAUSEWAY_ENGINE_PLAN_TIER_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace causeway {

// Weights that leave together, in the order in which they leave. A table costs a step nothing but the rows that it
// looks up. Of experts only those are brought over that tokens go to. MLPs are larger than attention, and their work
// grows with the batch alike. A head is used once a step as well, but takes a staging buffer of its own size.
enum class PieceKind : uint8_t { kTable, kExpert, kMlp, kAttention, kHead };
inline constexpr PieceKind kPieceKinds[] = {PieceKind::kTable, PieceKind::kExpert, PieceKind::kMlp,
                                            PieceKind::kAttention, PieceKind::kHead};

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
