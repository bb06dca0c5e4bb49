// All sequences that have not ended, where each of them stands, and what it holds: slot, blocks, place in a queue.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_TABLE_H_
#define CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_TABLE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "engine/cache/block_pool.h"
#include "engine/schedule/scheduler.h"
#include "engine/schedule/sequence.h"

namespace causeway {

class SequenceTable {
 public:
  explicit SequenceTable(const SchedulerOptions& options);

  // Owned by the table until Remove. Held, when it has to wait for another; else waiting.
  Sequence& Add(std::unique_ptr<Sequence> sequence);
  Sequence* Find(uint64_t id);  // null: unknown or ended
  // Gives back everything it holds and forgets it.
  void Remove(Sequence& sequence);

  // Waiting -> running, with a slot and the blocks of its prefix that Find of the pool found. The caller sees to it
  // that there is a slot. `sequence` leaves waiting().
  void Admit(Sequence& sequence, const std::vector<int32_t>& found);
  // Running -> waiting, at its rank. Rows in flight are as good as lost; tokens in flight are still taken.
  void Preempt(Sequence& sequence);
  // Makes the full blocks known whose tokens are known and whose rows are issued, and lets those go that wait for its
  // prompt. Not before the step that computes the rows is complete: the rows of one step must not count on each other.
  void Issued(Sequence& sequence);

  BlockPool& pool() { return pool_; }
  const BlockPool& pool() const { return pool_; }
  const std::vector<Sequence*>& running() const { return running_; }  // by rank
  const absl::btree_set<Sequence*, Outranks>& waiting() const { return waiting_; }
  int64_t waiting_count() const {
    return static_cast<int64_t>(sequences_.size() - running_.size());
  }  // the held ones too
  const absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>>& all() const { return sequences_; }
  bool slot_free() const { return !slots_.empty(); }
  // By deadline; those without one are not in it.
  const absl::btree_set<std::pair<absl::Time, uint64_t>>& deadlines() const { return deadlines_; }
  int64_t preemptions() const { return preemptions_; }

 private:
  void GiveBack(Sequence& sequence);   // slot and blocks, out of running_
  void LetGo(const Sequence& leader);  // those held for it

  const bool prefix_cache_;
  BlockPool pool_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  absl::btree_set<Sequence*, Outranks> waiting_;
  std::vector<Sequence*> running_;
  absl::flat_hash_map<uint64_t, std::vector<Sequence*>> held_;  // by the sequence waited for
  absl::btree_set<std::pair<absl::Time, uint64_t>> deadlines_;
  std::vector<int32_t> slots_;  // free ones
  int64_t preemptions_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_TABLE_H_
