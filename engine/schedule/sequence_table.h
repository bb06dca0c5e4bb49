// All sequences that have not ended, the state of each, and what it holds: slot, blocks, place in a queue.
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

  // Adds a sequence, which the table owns until Remove. It is held when it has to wait for another one; otherwise it
  // waits.
  Sequence& Add(std::unique_ptr<Sequence> sequence);
  Sequence* Find(uint64_t id);  // null when it is unknown or has ended
  // Gives back everything it holds and forgets it.
  void Remove(Sequence& sequence);

  // Waiting -> running. It gets a slot, and the blocks of its prefix that the pool's Find found. The caller makes sure
  // that there is a slot. `sequence` leaves waiting().
  void Admit(Sequence& sequence, const std::vector<int32_t>& found);
  // Running -> waiting, at its rank. Its rows in flight are lost; its tokens in flight are still taken.
  void Preempt(Sequence& sequence);
  // Registers the full blocks whose tokens are known and whose rows are issued, and releases the sequences that wait
  // for its prompt. It must not be called before the step that computes the rows is complete: the rows of one step must
  // not count on each other.
  void Issued(Sequence& sequence);

  BlockPool& pool() { return pool_; }
  const BlockPool& pool() const { return pool_; }
  const std::vector<Sequence*>& running() const { return running_; }  // by rank
  const absl::btree_set<Sequence*, Outranks>& waiting() const { return waiting_; }
  int64_t waiting_count() const {
    return static_cast<int64_t>(sequences_.size() - running_.size());
  }  // includes the held ones
  const absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>>& all() const { return sequences_; }
  bool slot_free() const { return !slots_.empty(); }
  // Sequences by deadline; those without one are left out.
  const absl::btree_set<std::pair<absl::Time, uint64_t>>& deadlines() const { return deadlines_; }
  int64_t preemptions() const { return preemptions_; }

 private:
  void GiveBack(Sequence& sequence);   // slot and blocks; leaves running_
  void LetGo(const Sequence& leader);  // releases the sequences held for it

  const bool prefix_cache_;
  BlockPool pool_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  absl::btree_set<Sequence*, Outranks> waiting_;
  std::vector<Sequence*> running_;
  absl::flat_hash_map<uint64_t, std::vector<Sequence*>> held_;  // by the sequence that they wait for
  absl::btree_set<std::pair<absl::Time, uint64_t>> deadlines_;
  std::vector<int32_t> slots_;  // the free ones
  int64_t preemptions_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_TABLE_H_
