// One replica of a model: pp stages of tp devices each, which serve their share of the requests.
#ifndef CAUSEWAY_ENGINE_STRATEGY_REPLICA_H_
#define CAUSEWAY_ENGINE_STRATEGY_REPLICA_H_

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/strategy/cost.h"
#include "engine/strategy/offload.h"

namespace causeway {

// As many requests at once as `concurrency`, each followed by another when it ends, evenly spread over time.
struct Workload {
  int64_t prompt_tokens = 512, output_tokens = 128;                   // of each request
  std::vector<int64_t> concurrency = {64};                            // each is tried
  double ttft_seconds_max = std::numeric_limits<double>::infinity();  // time to first token
  double tpot_seconds_max = std::numeric_limits<double>::infinity();  // time per output token after it
  int64_t running_max =
      std::numeric_limits<int64_t>::max();  // requests that a daemon runs at once, whatever its memory
};

struct ReplicaShape {
  int first_device = 0;  // of pp * tp consecutive ones: rank r of the fleet is device r
  int pp = 1, tp = 1;
  bool offload = false;  // weights that have no room are streamed from CPU memory or disk, each step
  int64_t requests = 1;  // at once, running or waiting
};

struct ReplicaFit {
  std::string misfit;   // which device is how many bytes short, of what; empty: it fits
  int64_t running = 0;  // requests that run at once: as many as the KV cache has room for; the others wait
};

struct StageMemory {
  UnitRange units;
  int device = 0;  // the first of its tp, all of which hold as much
  int64_t budget = 0, weights = 0, kv_cache = 0, activations = 0, reserve = 0;
  Offloaded offloaded;  // of one rank; its staging buffer is in `weights`
  int64_t free() const { return budget - weights - kv_cache - activations - reserve; }
};

struct ReplicaTimes {
  std::vector<StageMemory> stages;
  double ttft_seconds = 0;       // the wait for others to end included
  double tpot_seconds = 0;       // others' prompts between a request's tokens included
  double tokens_per_second = 0;  // generated
  double prompt_seconds = 0;     // that a prompt adds to a cycle
  double round_seconds = 0;      // of one token for each request that runs
  double bubble = 0;             // of a round
};

// Bytes of units first .. last as a stage on one rank.
struct StageBytes {
  int64_t weights = 0;
  int64_t activations = 0;
  int64_t block = 0;  // of the KV cache
};

// The model as one rank of a group has it.
class RankModel {
 public:
  RankModel(ModelSpec share, const PlanOptions& options)
      : spec(std::move(share)), work(MakeModelWork(spec, options)), pieces_(spec) {}

  // The pieces that may leave a stage of these units.
  HeldPieces Pieces(UnitRange units) const;

  const ModelSpec spec;
  const ModelWork work;

 private:
  const PieceTable pieces_;
};

class ReplicaModel {
 public:
  // `spec` and `fleet` must outlive this. Of the options: dtypes, max_num_batched_tokens, max_model_len (0: the
  // request's tokens), what operations hold.
  ReplicaModel(const ModelSpec& spec, const Fleet& fleet, const PlanOptions& options, const Workload& workload);

  // A rank of a group of `tp`, made once. InvalidArgument: what cannot be cut into so many shares (Shard).
  absl::StatusOr<const RankModel*> OneOf(int tp);

  // With the cut that has room for most requests. The same for any number of micro-batches. REQUIRES: OneOf(shape.tp).
  ReplicaFit Fit(const ReplicaShape& shape);
  // Of the cuts that have room for fit.running requests, the one whose slowest stage is fastest. REQUIRES: it fits.
  ReplicaTimes Time(const ReplicaShape& shape, const ReplicaFit& fit, int micro_batches);

  const ModelWork& work() const { return (*ranks_.at(1))->work; }
  const Fleet& fleet() const { return fleet_; }
  const ModelSpec& spec() const { return spec_; }
  const Workload& workload() const { return workload_; }
  // Of the plan of a daemon that so many requests are sent to at once. More than it has tokens in a step wait.
  PlanOptions OptionsFor(int64_t requests) const;

 private:
  // By range of units, the most bytes that may leave a stage.
  using FreedBytes = std::vector<int64_t>;

  // What a device takes whatever it holds.
  int64_t Reserve(const FleetDevice& device) const {
    return device.reserve + (device.device.kind == DeviceKind::kCuda ? small_weights_ : 0);
  }
  // A shape's devices and the bytes of all stages that there could be.
  struct Pipeline {
    std::vector<const FleetDevice*> devices;  // by stage: the first of its ranks
    std::vector<int64_t> room;                // by stage: its budget less what its device needs whatever it holds
    int64_t beside = 0;                       // hidden states in flight, in what is taken off
    std::vector<int> like;                    // by stage: the first one with as much room, here and elsewhere
    std::vector<const FreedBytes*> freed;     // by stage; empty: nothing may leave
    const RankModel* rank = nullptr;
    const std::vector<StageBytes>* bytes = nullptr;  // units x units
    int units = 0;

    size_t index(int first, int last) const { return static_cast<size_t>(first) * units + last; }
    const StageBytes& at(int first, int last) const { return (*bytes)[index(first, last)]; }
    // Bytes of the stage that have no room: what has to leave, or the misfit.
    int64_t Over(int stage, int first, int last, int64_t blocks) const;
    int64_t MostFreed(int stage, int first, int last) const {
      return freed.empty() ? 0 : (*freed[stage])[index(first, last)];
    }
  };
  // How stages fit with so many blocks, each decided once.
  class Fits {
   public:
    Fits(const Pipeline& pipeline, int64_t blocks) : pipeline_(pipeline), blocks_(blocks) {}

    // What leaves the stage; nothing: it does not fit.
    std::optional<Offloaded> Of(int stage, int first, int last);

   private:
    const Pipeline& pipeline_;
    const int64_t blocks_;
    std::map<std::pair<int, size_t>, std::optional<Offloaded>>
        decided_;  // by the first stage like it, and range of units
  };
  Pipeline MakePipeline(const ReplicaShape& shape);
  const std::vector<StageBytes>& Bytes(const ReplicaShape& shape, DeviceKind kind);
  const FreedBytes& MostFreedOf(int tp, const FleetDevice& device);
  std::string Misfit(const ReplicaShape& shape, const Pipeline& pipeline) const;

  const ModelSpec& spec_;
  const Fleet& fleet_;
  const PlanOptions options_;
  const Workload workload_;
  const Units units_;
  const int64_t small_weights_;                                       // SmallWeightBytes
  int64_t blocks_each_ = 0, blocks_least_ = 0;                        // of a request; of the longest sequence allowed
  std::map<int, absl::StatusOr<std::unique_ptr<RankModel>>> ranks_;   // by tp
  std::map<std::pair<int, int64_t>, std::vector<StageBytes>> bytes_;  // by tp and requests
  std::map<std::pair<int, int64_t>, FreedBytes> freed_;               // by tp and room for what leaves
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_REPLICA_H_
