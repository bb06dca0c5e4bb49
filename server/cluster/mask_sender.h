// In the process that leads, the grammars of the sequences whose tokens another process samples: asks them for each
// token's mask as early as it can be known, and sends it.
#ifndef CAUSEWAY_SERVER_CLUSTER_MASK_SENDER_H_
#define CAUSEWAY_SERVER_CLUSTER_MASK_SENDER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/sampling/constraint.h"

namespace causeway {

// Of one replica. Start and Sampling come in the order in which steps are launched, from any thread. So do the calls of
// Sampled, one at a time.
class MaskSender {
 public:
  // Sends a mask, whose words are there until it returns. Any of the sender's threads calls it: those of a sequence one
  // at a time, in the order of indexes.
  using Send = std::function<void(uint64_t sequence, int64_t index, const TokenMask& mask)>;

  // As many masks as there are threads may be waited for before one that is slow holds up another sequence's.
  static constexpr int kThreads = 4;
  explicit MaskSender(Send send);
  // Waits for the masks that are asked for now. Those that nobody has asked for yet are never sent.
  ~MaskSender();
  MaskSender(const MaskSender&) = delete;
  MaskSender& operator=(const MaskSender&) = delete;

  // A sequence has its first step in a slot, again after a preemption. Null: it has no grammar. What had the slot
  // before is forgotten when none of its tokens is to be sampled any more; until then its constraint is kept.
  void Start(int32_t slot, uint64_t sequence, std::shared_ptr<TokenConstraint> constraint);
  // A step that samples the sequence's token `index` has been launched. Nothing happens without a grammar.
  void Sampling(uint64_t sequence, int64_t index);
  // What became of that: `chosen` says whether there is a token. To be called for every call of Sampling, also where
  // the step has failed. Internal: the index is not the next, or its token was chosen and no mask was sent for it; the
  // other process is out of step.
  absl::Status Sampled(uint64_t sequence, int64_t index, int32_t token, bool chosen);

  size_t sequences() const;  // that have a constraint here

 private:
  struct Entry {
    int32_t slot = 0;
    std::shared_ptr<TokenConstraint> constraint;
    std::deque<int64_t> pending;  // launched and not sampled; only the first can be asked for
    int64_t asked = -1;           // the last index that was asked for
    bool busy = false;            // it is being asked for or sent
    bool has_slot = false;
  };

  void Loop();
  // Queues the sequence where its first pending index has not been asked for.
  void Ask(uint64_t sequence, Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseIfOver(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Send send_;
  mutable absl::Mutex mutex_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::map<int32_t, uint64_t> in_slot_ ABSL_GUARDED_BY(mutex_);  // sequences with an entry
  std::deque<uint64_t> queue_ ABSL_GUARDED_BY(mutex_);           // of sequences to ask for their first pending index
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_MASK_SENDER_H_
