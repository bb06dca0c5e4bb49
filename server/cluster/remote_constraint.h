// In a process that follows, the grammar of a sequence: the process that leads has it, and sends its masks.
#ifndef CAUSEWAY_SERVER_CLUSTER_REMOTE_CONSTRAINT_H_
#define CAUSEWAY_SERVER_CLUSTER_REMOTE_CONSTRAINT_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/sampling/constraint.h"

namespace causeway {

class RemoteConstraint final : public TokenConstraint {
 public:
  // A mask has come. Its index is above that of all before it.
  void Deliver(int64_t index, TokenMask::State state, std::vector<uint32_t> allowed, absl::Status status);
  // No further mask comes. Whoever waits for one, now or later, gets kFailed with this status, which is an error.
  void Fail(absl::Status status);

  // True: the process that leads plans no row whose mask is slow.
  bool Soon(int64_t index) const override { return true; }
  // The words of the mask stay until that of another index is asked for. A mask that ends the sequence is that of all
  // later indexes, too.
  TokenMask Await(int64_t index) override;
  // Forgets the masks up to `index` that nobody has asked for. What was chosen is the other process's to tell.
  void Chosen(int64_t index, int32_t token) override;

 private:
  struct Mask {
    int64_t index = -1;
    TokenMask::State state = TokenMask::State::kTokens;
    std::vector<uint32_t> allowed;
    absl::Status status;
  };
  // Forgets those that have come for the indexes below `index`.
  void DropBelow(int64_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  TokenMask Current() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::deque<Mask> come_ ABSL_GUARDED_BY(mutex_);
  Mask current_ ABSL_GUARDED_BY(mutex_);  // what Await gave last
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_REMOTE_CONSTRAINT_H_
