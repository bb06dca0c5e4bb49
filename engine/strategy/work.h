// What each execution unit of a model holds, reads and computes on a rank.
#ifndef CAUSEWAY_ENGINE_STRATEGY_WORK_H_
#define CAUSEWAY_ENGINE_STRATEGY_WORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/architecture/spec.h"
#include "engine/plan/plan.h"

namespace causeway {

// Units are the plan's: embeddings, layers, final norm, head.
struct UnitWork {
  int64_t bytes = 0;                                             // of its weights
  int64_t copy_bytes = 0;                                        // of a tied head's, on a stage without the embeddings
  int64_t read_bytes = 0;                                        // of all that every step reads: not tables and experts
  int64_t experts = 0, experts_per_token = 0, expert_bytes = 0;  // of each; read when a token goes there
  double row_flops = 0;                                          // of the linears, for each row
  int64_t row_bytes = 0;  // that norms, rotations and activations read and write of each row
  double key_flops = 0;   // of attention, for each row and each key that it sees
  int64_t kv_bytes = 0;   // of a token
  int64_t window = 0;     // keys that a row sees at most; 0: all
  int collectives = 0;    // all-reduces over hidden states that the ranks of a group need
};

struct ModelWork {
  std::string format, head_format;  // what the layers' linears and the head are held in: "bf16", "int8"
  DType dtype = DType::kBF16;
  int64_t hidden_row_bytes = 0;  // hidden states of one row
  int64_t total_bytes = 0;
  std::vector<UnitWork> units;
};

// `spec` is the model, or a rank's share of it (Shard).
ModelWork MakeModelWork(const ModelSpec& spec, const PlanOptions& options);

// Experts of `experts` that `rows` rows go to, each to `chosen` different ones, all equally likely.
double ExpectedExperts(int64_t experts, int64_t chosen, double rows);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_WORK_H_
