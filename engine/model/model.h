// The part of a model that one device holds.
#ifndef CAUSEWAY_ENGINE_MODEL_MODEL_H_
#define CAUSEWAY_ENGINE_MODEL_MODEL_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/architecture/units.h"
#include "engine/model/kv_cache.h"
#include "engine/model/layer.h"
#include "engine/model/rotary.h"
#include "engine/weights/targets.h"

namespace causeway {

// What a segment computes from.
struct StageInput {
  at::Tensor ids;      // int64 [tokens], in the rank's words; read by unit 0 alone, as is the next
  at::Tensor foreign;  // int64 [n]: rows whose words other ranks have; undefined: none
  at::Tensor hidden;   // [tokens, hidden] from the segment before; undefined for the first; written over
  at::Tensor rows;  // int64 [selected]: rows that go on after the last layer, to norm and head; undefined: all of them
  const AttentionBatch* batch = nullptr;
  Communicator* ranks = nullptr;  // of the context's group; null: there is one rank
  std::function<void(int unit, const Hidden& hidden)>
      after_unit;  // where set, called after the embeddings and each layer
  // Where positive, the ranks exchange so many of each row's likeliest tokens (Ops::Candidates) in place of its logits.
  int64_t candidates = 0;
  bool one_of_each = false;  // of the segment's layers, only the first with an MLP and the first with experts, and of
                             // these the first of each set of weight formats (the warm-up, where only shapes matter)
};

// Executes any ModelSpec. One thread at a time.
class DeviceModel {
 public:
  // Unfilled weights for `units` (ascending), allocated on context.device. Of the context, spec and ops must outlive
  // the model.
  DeviceModel(const ModelContext& context, const std::vector<int>& units);

  // What a loader must fill.
  LoadTargets Targets();

  // Runs the units, all of them held here. -> [tokens, hidden], or [selected, hidden] once the last layer
  // is among or before them, or logits [selected, vocab] when last is the head: on rank 0, and undefined on the others.
  // With several ranks, `candidates` of all ranks' shares may take the place of the logits, side by side.
  at::Tensor Forward(UnitRange units, StageInput input, const RotaryTables& rotary, KvCache& cache) const;

  // [rows, hidden] as the last layer leaves them. The final norm must be held here.
  at::Tensor FinalNorm(const at::Tensor& rows) const { return norm_->Forward(ops_, rows, at::Tensor()); }

  ShareRange words() const { return words_; }  // whose embeddings and logits are here
  std::vector<int> layers() const;             // held here, ascending indices in the model
  const Layer& layer(int index) const { return layers_.at(index); }

  // Of the layers held here that have experts; any thread.
  std::map<int, ExpertLoad> ExpertLoads() const;
  void ClearExpertLoads();  // the thread that runs Forward

 private:
  // Whether a table of unit 0, held here, is the fetcher's.
  bool Fetched(const std::string& table) const {
    return fetcher_ != nullptr && !table.empty() && fetcher_->Offloads(table);
  }
  at::Tensor Embed(const StageInput& input) const;
  at::Tensor Gathered(const at::Tensor& logits, const StageInput& input) const;

  const ModelSpec& spec_;
  Ops& ops_;
  const ParallelGroup group_;
  const ShareRange words_;
  WeightFetcher* fetcher_ = nullptr;         // of the tables, where unit 0 is held; null: of none
  std::shared_ptr<LinearWeight> embedding_;  // [vocab, hidden]; shared with a tied head on the same device
  std::shared_ptr<LinearWeight> position_;   // [positions, hidden]
  std::map<int, Layer> layers_;
  std::optional<Norm> norm_;
  std::optional<Linear> head_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_MODEL_H_
