// Which weights are evicted from a device that cannot hold all that it computes from, where they lie then, and the
// buffer that they are streamed through. Plans, searches and the configurations that a search writes all ask here.
#ifndef CAUSEWAY_ENGINE_PLAN_OFFLOAD_H_
#define CAUSEWAY_ENGINE_PLAN_OFFLOAD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/architecture/spec.h"
#include "engine/architecture/units.h"
#include "engine/plan/tier.h"

namespace causeway {

// Weights that leave together: those of a layer's attention, its MLP or one of its experts, the head, or a table of
// embeddings. Norms and routers stay: they are small.
struct OffloadPiece {
  PieceKind kind = PieceKind::kTable;
  int unit = 0;
  std::string module;  // the path around its weights
  int64_t bytes = 0;   // as held
  std::vector<int64_t>
      streamed;  // by linear, in the order of use: what each takes of the staging buffer; of a table nothing
};

// In the order in which steps use them. With a tied head on the embeddings' device (`head_shares`) the two are one
// piece, of the head's unit.
std::vector<OffloadPiece> OffloadPieces(const ModelSpec& spec, bool head_shares);

using PieceList = std::vector<const OffloadPiece*>;  // of one device, in the order of use

// Neighbours in that order that differ in nothing but their names, as the experts of a layer do. Sums over runs are
// fast enough for a search, which decides thousands of times about tens of thousands of experts.
struct PieceRun {
  const OffloadPiece* piece = nullptr;  // the first of `count` that lie one after the other
  int64_t count = 1;
};
using HeldPieces = absl::Span<const PieceRun>;  // all of one device, in the order of use

std::vector<PieceRun> RunsOf(const std::vector<OffloadPiece>& pieces);  // which must outlive these

// The pieces of one model, made when first asked for: of many experts they take longer than a plan.
class PieceTable {
 public:
  explicit PieceTable(const ModelSpec& spec) : spec_(spec) {}  // which must outlive this

  const std::vector<OffloadPiece>& All(bool head_shares) const { return Of(head_shares).all; }
  const std::vector<PieceRun>& Runs(bool head_shares) const { return Of(head_shares).runs; }

 private:
  struct Pieces {
    std::vector<OffloadPiece> all;
    std::vector<PieceRun> runs;
  };
  const Pieces& Of(bool head_shares) const;

  const ModelSpec& spec_;
  mutable Pieces pieces_[2];  // by head_shares
};

// Those of `all` pieces of a model that belong to these units.
HeldPieces PiecesWithin(HeldPieces all, UnitRange units);

// The buffer that evicted pieces are streamed through: room for two linears in a row, so that one is read while the
// other is computed from, and for two experts.
int64_t StagingBytes(const PieceList& gone);

// The decision about a device: all pieces of the kinds before `kind` leave, and `count` of that kind, evenly spread
// over the layers, so that reading goes on while the rest is computed.
struct Eviction {
  PieceKind kind = PieceKind::kTable;
  int64_t count = 0;
  int64_t freed = 0;  // bytes that the device holds less then, the staging buffer counted
};

// The least that frees `wanted` bytes. Where nothing frees as much, all leave.
Eviction Evict(HeldPieces held, int64_t wanted);

// The pieces that leave by this decision.
PieceList Gone(HeldPieces held, const Eviction& eviction);

// Assigns tiers to what leaves devices: CPU memory as long as it has room, then the disk.
class TierFiller {
 public:
  explicit TierFiller(int64_t cpu_bytes) : cpu_left_(cpu_bytes) {}

  // `given`: the tier that a map has the piece in.
  Tier Place(const OffloadPiece& piece, std::optional<Tier> given = std::nullopt);
  // Returns how many of `count` pieces like this one go to CPU memory: the first ones. The others go to the disk.
  int64_t PlaceAlike(const OffloadPiece& piece, int64_t count);
  int64_t cpu_left() const { return cpu_left_; }  // below 0: maps gave CPU memory more than it has

 private:
  int64_t cpu_left_;
};

// Sums over what leaves a device.
struct Offloaded {
  Eviction eviction;
  int64_t bytes = 0;    // as held
  int64_t experts = 0;  // of these, those of experts: streamed when a token goes there
  int64_t linears = 0;  // and those that every step streams; the rest are tables, of which a step reads rows
  int64_t staging = 0;  // the buffer, on the device
  int64_t on_disk = 0;  // of `bytes`
};
Offloaded SumOf(HeldPieces held, const Eviction& eviction, TierFiller& tiers);

// The most bytes that Evict frees where no piece may go to the disk, and CPU memory has room for `cpu_bytes`; at least
// 0.
int64_t MostFreed(HeldPieces held, int64_t cpu_bytes);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_OFFLOAD_H_
