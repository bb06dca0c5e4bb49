// All ways to serve a model on a fleet: DP x PP x TP x micro-batches x offload, timed and ranked.
#ifndef CAUSEWAY_ENGINE_STRATEGY_SEARCH_H_
#define CAUSEWAY_ENGINE_STRATEGY_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/strategy/replica.h"

namespace causeway {

struct Strategy {
  int dp = 1, pp = 1, tp = 1;
  int micro_batches =
      1;  // parts of a replica's running sequences, as far as it has as many, each a step of its own; 0: any number
  bool offload = false;  // weights that have no room are in CPU memory or on disk
};
// "DP 2 x PP 4 x TP 1, 4 micro-batches"; factors of 1 are left out, unless all are.
std::string StrategyName(const Strategy& strategy);

// Where rank r of dp * pp * tp is.
struct RankPlace {
  int dp = 0, pp = 0, tp = 0;
};
RankPlace PlaceOfRank(int rank, const Strategy& strategy);

struct Candidate {
  Strategy strategy;
  int64_t concurrency = 0;                    // of all replicas
  std::string dropped;                        // why it cannot be or breaks a limit; empty: it is ranked
  bool fits = false;                          // what follows is set
  int64_t running = 0;                        // requests at once, over all replicas
  std::vector<int64_t> running_each;          // of each replica
  double ttft_seconds = 0, tpot_seconds = 0;  // of the slowest replica
  double tokens_per_second = 0;               // generated, over all replicas
  double tokens_per_second_device = 0;
  double tokens_per_second_user = 0;               // of a request once it has its first token
  double bubble = 0;                               // of decoding in the slowest replica
  StageMemory fullest;                             // the device with the largest part of its budget taken
  std::vector<std::vector<StageMemory>> replicas;  // stages of each
  int64_t offloaded_bytes = 0, on_disk_bytes = 0;  // over all devices; the latter of the former
  bool pareto = false;     // no ranked one is as good in both figures per device and per user, and better in one
  std::string not_served;  // what this version of Causeway lacks to serve it; empty: nothing
};

struct Search {
  std::vector<Candidate> ranked;   // most tokens per second first
  std::vector<Candidate> dropped;  // in the order tried
  int best_served = -1;            // index into `ranked`; -1: none can be served
};

// InvalidArgument: a workload without tokens or requests, or longer than the model's context; a fleet with a device
// whose speed for the dtype is unknown.
absl::StatusOr<Search> SearchStrategies(const ModelSpec& spec, const Fleet& fleet, const PlanOptions& options,
                                        const Workload& workload);

// Marks those that none dominates.
void MarkPareto(std::vector<Candidate>& candidates);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_SEARCH_H_
