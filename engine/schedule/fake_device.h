// An executor for tests that computes something exact: a "model" whose next token depends on every token before it, as
// read from a fake KV cache of blocks and offsets. Any mistake in block tables, sharing, preemption or placeholders
// changes tokens. On the way it checks the contract of StepPlan.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_FAKE_DEVICE_H_
#define CAUSEWAY_ENGINE_SCHEDULE_FAKE_DEVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/batch/step.h"
#include "engine/schedule/scheduler.h"

namespace causeway {

inline constexpr int32_t kFakeVocab = 50;

// The result that a sequence must have when it runs to its end: the generated tokens, and the stop id at their end if
// there is one.
struct FakeTruth {
  std::vector<int32_t> generated;
  bool stopped = false;
};
FakeTruth TruthOf(const SequenceRequest& request, const SchedulerOptions& options);

class FakeDevice {
 public:
  explicit FakeDevice(const SchedulerOptions& options);

  // Adds a sequence that the scheduler is given. It must be called before any step has the sequence.
  void Add(const SequenceRequest& request);
  // Computes the step, with all checks (EXPECT), and returns its result. A step with `fail` leaves garbage in the
  // cache.
  StepResult Run(const StepPlan& plan, bool fail = false);

  int64_t restarts() const { return restarts_; }  // sequences that came back after a preemption

 private:
  struct Entry {  // one place of the KV cache
    uint64_t value = 0;
    std::string salt;
  };
  struct Slot {
    uint64_t sequence = 0;
    int32_t last_token = -1;
    std::shared_ptr<const SequenceStart> start;
  };
  struct SequenceTruth {
    SequenceRequest request;
    std::vector<int32_t> tokens;  // prompt and everything sampled so far
    int64_t next = 0;             // the position whose row comes next
    bool started = false;
  };
  int32_t RunSequence(const StepSequence& s, SequenceTruth& truth, bool fail);  // the sampled token, or -1
  Entry& At(const StepSequence& s, int64_t position);

  const SchedulerOptions options_;
  std::vector<Entry> cache_;  // [blocks * kBlockTokens]
  std::vector<Slot> slots_;
  std::map<uint64_t, SequenceTruth> sequences_;
  uint64_t last_step_ = 0;
  int64_t restarts_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_FAKE_DEVICE_H_
