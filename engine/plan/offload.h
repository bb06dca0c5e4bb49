// Which weights leave a device that cannot hold all that it computes from.
#ifndef CAUSEWAY_ENGINE_PLAN_OFFLOAD_H_
#define CAUSEWAY_ENGINE_PLAN_OFFLOAD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/architecture/spec.h"
#include "engine/plan/tier.h"

namespace causeway {

// Weights that leave together: those of a layer's attention, its MLP or one of its experts, the head, or a table of
// embeddings. Norms and routers stay: they are small.
struct OffloadPiece {
  // In the order in which they leave. A table costs a step nothing but the rows that it looks up. Of experts only those
  // are brought over that tokens go to. MLPs are larger than attention, and their work grows with the batch alike. A
  // head is used once a step as well, but takes a staging buffer of its own size.
  enum class Kind : uint8_t { kTable, kExpert, kMlp, kAttention, kHead };
  Kind kind = Kind::kTable;
  int unit = 0;
  std::string module;  // the path around its weights
  int64_t bytes = 0;   // as held
  std::vector<int64_t>
      streamed;  // by linear, in the order of use: what each takes of the staging buffer; of a table nothing
};

// In the order in which steps use them. With a tied head on the embeddings' device (`head_shares`) the two are one
// piece, of the head's unit.
std::vector<OffloadPiece> OffloadPieces(const ModelSpec& spec, bool head_shares);

// OffloadPieces of one model, made when first asked for: of many experts they take longer than a plan.
class PieceTable {
 public:
  explicit PieceTable(const ModelSpec& spec) : spec_(spec) {}  // which must outlive this
  const std::vector<OffloadPiece>& Of(bool head_shares) const;

 private:
  const ModelSpec& spec_;
  mutable std::vector<OffloadPiece> pieces_[2];  // by head_shares
};

using PieceList = std::vector<const OffloadPiece*>;

// The buffer that these come through: room for two linears in a row, so that one is read while the other is computed
// from, and for two experts. `pieces` are of one device, in the order of use; only those that are `gone` count.
int64_t StagingBytes(const PieceList& pieces, const std::vector<bool>& gone);

// What the device holds less when these are gone, the staging buffer counted.
int64_t FreedBytes(const PieceList& pieces, const std::vector<bool>& gone);

// Adds to `gone` the least that frees `wanted` bytes: kind by kind, of the last kind evenly spread over the layers, so
// that reading goes on while the rest is computed. False where all of them are not enough; then all are gone.
bool Evict(const PieceList& pieces, int64_t wanted, std::vector<bool>& gone);

// Which tier each piece goes to that has left its device: CPU memory as long as it has room, then the disk.
class TierFiller {
 public:
  explicit TierFiller(int64_t cpu_bytes) : cpu_left_(cpu_bytes) {}

  // `given`: a map has it there.
  Tier Place(const OffloadPiece& piece, std::optional<Tier> given = std::nullopt);
  int64_t cpu_left() const { return cpu_left_; }  // below 0: maps gave CPU memory more than it has

 private:
  int64_t cpu_left_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_OFFLOAD_H_
