// What each execution unit of a model holds, reads and computes, whoever does it.
#ifndef CAUSEWAY_ENGINE_STRATEGY_WORK_H_
#define CAUSEWAY_ENGINE_STRATEGY_WORK_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/architecture/spec.h"
#include "engine/plan/plan.h"

namespace causeway {

// Units are the plan's: embeddings, layers, final norm, head.
struct UnitWork {
  int64_t cut_bytes = 0;    // weights of linears and tables: tensor parallelism divides them
  int64_t whole_bytes = 0;  // and those that every rank holds
  int64_t copy_bytes = 0;   // of a tied head, on a stage without the embeddings
  int64_t read_bytes = 0;   // of the linears that every step reads: all but a table and experts
  int64_t experts = 0, experts_per_token = 0, expert_bytes = 0;  // of each; read when a token goes there
  double row_flops = 0;                                          // of the linears, for each row
  int64_t row_bytes = 0;                                         // that norms read and write of each row, on every rank
  int64_t cut_row_bytes = 0;  // and rotations and activations, which tensor parallelism divides
  double key_flops = 0;       // of attention, for each row and each key that it sees
  int64_t kv_bytes = 0;       // of a token
  int64_t window = 0;         // keys that a row sees at most; 0: all
  int collectives = 0;        // all-reduces over hidden states under tensor parallelism
};

// Weights that may leave a device, of one OffloadPiece::Kind.
struct Offloadable {
  int64_t bytes = 0;                // as held
  int64_t pieces = 0;               // that leave as a whole, taken to be equal
  int64_t streamed = 0;             // that they take elsewhere, rounded up to pages
  int64_t largest = 0, second = 0;  // streamed at once, two of which the staging buffer holds: linears, or experts

  void Add(const Offloadable& other);
};
using OffloadableByKind = std::array<Offloadable, 5>;

struct ModelWork {
  std::string format, head_format;  // what the layers' linears and the head are held in: "bf16", "int8"
  DType dtype = DType::kBF16;
  int64_t hidden_row_bytes = 0;  // hidden states of one row
  int64_t total_bytes = 0;
  std::vector<UnitWork> units;
  std::vector<OffloadableByKind> offloadable;         // by unit, of a stage without the head or without the embeddings
  std::vector<OffloadableByKind> offloadable_shared;  // and of one with both, which a tied head shares with
  Units model_units() const { return Units::OfCount(static_cast<int>(units.size())); }
};

ModelWork MakeModelWork(const ModelSpec& spec, const PlanOptions& options);

// Experts of `experts` that `rows` rows go to, each to `chosen` different ones, all equally likely.
double ExpectedExperts(int64_t experts, int64_t chosen, double rows);

// InvalidArgument: what tensor parallelism over `tp` ranks could not cut into equal shares. The rules are those of the
// engine's shards: heads, key/value heads and widths are divisible, groups of quantized weights stay whole, and so does
// an order of inputs.
absl::Status CheckTensorParallel(const ModelSpec& spec, int tp);

// The model as one of `tp` ranks has it, for what a rank holds beside its weights: without modules, and with the first
// expert alone.
ModelSpec RankSpec(const ModelSpec& spec, int tp);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_WORK_H_
