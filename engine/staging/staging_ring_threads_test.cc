// Runs a reader thread and a computing thread around one ring, with real bytes. The thread sanitizer sees bytes that
// the ring gives to both; the address sanitizer sees those beyond the buffer.
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "engine/staging/staging_ring.h"
#include "engine/staging/testing.h"

namespace causeway {
namespace {

using State = StagingRing::Acquired::State;
using testing::Between;
using testing::OneIn;
using testing::Random;
using testing::StagedModel;
using testing::StagedStep;

constexpr char kReleased = 0;

// What each byte of a weight is. Neighbours in order have different ones.
char StampOf(int id) { return static_cast<char>(1 + id % 120); }

// Does what WeightStream does around the ring, with stamps in place of weights. It has the standard's mutex, because
// the thread sanitizer does not see into Debian's Abseil.
class Stream {
 public:
  Stream(const StagedModel& model, uint64_t seed, int64_t fails_one_in)
      : model_(model),
        fails_one_in_(fails_one_in),
        random_(seed),
        // The buffer has exactly that size, so that the bytes beyond it belong to nobody.
        buffer_(std::make_unique<char[]>(model.StagingBytes())),
        ring_(model.StagingBytes()) {
    testing::AddTo(ring_, model_);
    reader_ = std::thread([this] { ReadLoop(); });
  }
  ~Stream() {
    Locked([this] { stop_ = true; });
    reader_.join();
  }

  void BeginStep(int64_t rows) {
    Locked([&] { ring_.BeginStep(rows); });
  }
  void Expect(const std::vector<StagingRing::Use>& uses) {
    Locked([&] { ring_.Expect(uses); });
  }
  StagingRing::Acquired Acquire(int id) {
    std::unique_lock lock(mutex_);
    StagingRing::Acquired acquired = ring_.Acquire(id);
    changed_.notify_all();
    if (acquired.state != State::kWait) return acquired;
    changed_.wait(lock, [this] { return ring_.CanAcquire(); });
    return ring_.Acquire(id);
  }
  void Release(int id) {
    Locked([&] { ring_.Release(id); });
  }
  void ReleaseAll() {
    Locked([&] { ring_.ReleaseAll(); });
  }

  // To be called between Acquire and Release. Returns false where other bytes are there. It overwrites them, so that
  // the sanitizer sees a thread that still computes from them, or one that reads into them too early.
  bool Compute(int id, int64_t offset) {
    char* const begin = buffer_.get() + offset;
    const int64_t bytes = model_.weights[id].bytes;
    const bool right = std::count(begin, begin + bytes, StampOf(id)) == bytes;
    std::fill_n(begin, bytes, kReleased);
    return right;
  }

 private:
  template <typename Change>
  void Locked(const Change& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }

  void ReadLoop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || ring_.Next().has_value(); });
      if (stop_) break;
      const StagingRing::Read read = ring_.StartRead();
      lock.unlock();
      const bool fails = fails_one_in_ > 0 && OneIn(random_, fails_one_in_);
      const int64_t bytes = model_.weights[read.id].bytes;
      std::fill_n(buffer_.get() + read.offset, fails ? bytes / 2 : bytes, StampOf(read.id));
      if (OneIn(random_, 4)) std::this_thread::yield();
      lock.lock();
      ring_.FinishRead(fails ? absl::DataLossError("short") : absl::OkStatus());
      changed_.notify_all();
    }
  }

  const StagedModel& model_;
  const int64_t fails_one_in_;
  Random random_;  // only the reader thread uses it
  const std::unique_ptr<char[]> buffer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  StagingRing ring_;  // guarded by mutex_, as is the next
  bool stop_ = false;
  std::thread reader_;
};

// Returns false when the step failed; the stream still holds what it had acquired.
bool RunStep(Stream& stream, const StagedStep& step, int64_t aborts_one_in, Random& random) {
  stream.BeginStep(step.rows);
  for (const StagedStep::Action& action : step.actions) {
    if (action.compute.empty()) {
      stream.Expect(action.expect);
      continue;
    }
    std::vector<std::pair<int, int64_t>> acquired;  // id, offset
    for (const int id : action.compute) {
      const StagingRing::Acquired weight = stream.Acquire(id);
      if (weight.state == State::kFailed) return false;
      if (weight.state == State::kReady) acquired.emplace_back(id, weight.offset);
    }
    if (aborts_one_in > 0 && OneIn(random, aborts_one_in)) return false;
    for (const auto& [id, offset] : acquired) EXPECT_TRUE(stream.Compute(id, offset)) << "weight " << id;
    for (const int id : action.compute) stream.Release(id);
  }
  return true;
}

struct Counts {
  int whole = 0, failed = 0;
};

Counts RunAll(bool careless, int64_t fails_one_in) {
  Counts counts;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const StagedModel model = testing::MakeStagedModel(random);
    Stream stream(model, seed + 1000, fails_one_in);
    for (int n = 0; n < 40; ++n) {
      const StagedStep step = testing::MakeStagedStep(model, Between(random, 1, 5), careless, random);
      const bool whole = RunStep(stream, step, 2 * fails_one_in, random);
      if (!whole) stream.ReleaseAll();
      ++(whole ? counts.whole : counts.failed);
    }
  }
  return counts;
}

TEST(StagingRingThreads, StepsComputeFromWhatWasReadForThem) {
  EXPECT_EQ(RunAll(/*careless=*/false, /*fails_one_in=*/0).failed, 0);
}

TEST(StagingRingThreads, AlsoBesideWhatIsDroppedAndWhatFails) {
  const Counts counts = RunAll(/*careless=*/true, /*fails_one_in=*/20);
  EXPECT_GT(counts.whole, 0);
  EXPECT_GT(counts.failed, 0);
}

}  // namespace
}  // namespace causeway
