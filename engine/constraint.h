// Masks of allowed tokens, as grammars say. Threads of their own compute them while the devices compute the step that
// needs them.
#ifndef CAUSEWAY_ENGINE_CONSTRAINT_H_
#define CAUSEWAY_ENGINE_CONSTRAINT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/bounded_queue.h"
#include "engine/sampling/constraint.h"
#include "engine/text/grammar.h"

namespace causeway {

class MaskWorkers;

// One sequence's grammar. The engine makes it; the sampler asks it and tells it.
class GrammarConstraint final : public TokenConstraint, public std::enable_shared_from_this<GrammarConstraint> {
 public:
  // `ends` may be chosen wherever the grammar may end. Where the grammar takes one of them as text, it is text.
  // `workers` outlives every call.
  GrammarConstraint(std::unique_ptr<GrammarMatcher> matcher, int64_t vocab_size, std::vector<int32_t> ends,
                    MaskWorkers& workers);

  // Begins the first mask. Call once.
  void Begin();
  bool Soon(int64_t index) const override;
  TokenMask Await(int64_t index) override;
  void Chosen(int64_t index, int32_t token) override;
  // Whether nothing may follow what was chosen; waits for the mask that tells.
  bool Complete();
  // To be called when the sequence has ended: gives back what the grammar holds.
  void Release();

 private:
  friend class MaskWorkers;
  enum class Progress { kBusy, kReady, kEnded };

  void Work(std::optional<int32_t> token);  // on a worker's thread, one call at a time
  void Settle(TokenMask::State state, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<int32_t> ends_;
  MaskWorkers& workers_;
  // Belongs to Work while kBusy, and to the holder of the lock otherwise.
  std::unique_ptr<GrammarMatcher> matcher_;
  std::vector<uint32_t> words_;
  std::vector<int32_t> ends_here_;  // ids of `ends_` that are ends in this mask, not text

  mutable absl::Mutex mutex_;
  Progress progress_ ABSL_GUARDED_BY(mutex_) = Progress::kBusy;
  int64_t index_ ABSL_GUARDED_BY(mutex_) = 0;  // index of the mask at work or ready
  TokenMask::State state_ ABSL_GUARDED_BY(mutex_) = TokenMask::State::kTokens;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool slow_ ABSL_GUARDED_BY(mutex_) = false, released_ ABSL_GUARDED_BY(mutex_) = false;
};

// Thread-safe.
class MaskWorkers {
 public:
  struct Stats {
    int64_t masks = 0;
    double seconds = 0;  // time spent on masks, over all threads
  };

  // `slow_mask` is called on a worker's thread when a mask is there for which Soon may have said no.
  MaskWorkers(int threads, std::function<void()> slow_mask);
  ~MaskWorkers();  // returns after the work that is queued
  Stats stats() const;

 private:
  friend class GrammarConstraint;
  struct Job {
    std::shared_ptr<GrammarConstraint> constraint;
    std::optional<int32_t> token;
  };

  void Push(std::shared_ptr<GrammarConstraint> constraint, std::optional<int32_t> token);
  void Loop();

  const int threads_max_;
  const std::function<void()> slow_mask_;
  BoundedQueue<Job> jobs_;
  absl::Mutex mutex_;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);  // started with the first job
  std::atomic<int64_t> masks_ = 0, nanoseconds_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CONSTRAINT_H_
