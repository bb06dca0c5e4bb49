// The queue of a device that does its work late, as a GPU's stream does, and that can fail.
#ifndef CAUSEWAY_TESTS_SUPPORT_LATE_QUEUE_H_
#define CAUSEWAY_TESTS_SUPPORT_LATE_QUEUE_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <thread>

namespace causeway::testing {

// What can be late.
enum class LatePlace {
  kNowhere,
  kWork,          // what the device computes
  kUpload,        // small tensors to the device
  kDownload,      // tensors to the host
  kReceive,       // hidden states from another device
  kCopyFromHost,  // weights to the device
  kCopyToHost,    // weights from it
  kOnHost,        // what the CPU computes beside the device
};

struct LateOptions {
  uint64_t seed = 1;
  std::chrono::microseconds delay_max{50};  // the longest random delay, everywhere
  LatePlace late_at = LatePlace::kNowhere;  // is late by `late_by` each time
  std::chrono::microseconds late_by{0};
};

// Work is done in order on a thread of its own. Thread-safe.
class LateQueue {
 public:
  // The queue's thread calls `enter` first.
  LateQueue(std::string name, LateOptions options, const std::function<void()>& enter);
  ~LateQueue();  // returns after the work that is queued

  // Queues `work` and returns at once. Throws c10::OutOfMemoryError where RefuseAt says so.
  void Push(std::function<void()> work, LatePlace place = LatePlace::kWork);
  // How many pieces have been pushed, for Wait.
  uint64_t pushed() const;
  // Waits until `count` pieces are done. Throws c10::Error once the device has failed, as every call does from then on.
  void Wait(uint64_t count);

  std::string error() const;  // why the device has failed; empty: it has not

  // Makes the piece fail that is pushed after `more` others, and the device with it: nothing is done any more.
  void FailAt(uint64_t more);
  // Makes Push throw once, after `more` others, as if no memory were left.
  void RefuseAt(uint64_t more);
  // Sleeps as long as the options say: a delay for the calling thread itself.
  void Delay(LatePlace place);

 private:
  void Loop(const std::function<void()>& enter);
  std::chrono::microseconds NextDelay(LatePlace place);

  struct Piece {
    std::function<void()> work;
    LatePlace place;
  };

  const std::string name_;
  const LateOptions options_;
  mutable std::mutex mutex_;  // guards the rest; the thread sanitizer sees the standard's mutex
  std::condition_variable changed_;
  std::mt19937_64 random_;
  std::deque<Piece> work_;
  uint64_t pushed_ = 0, done_ = 0, fail_at_ = 0, refuse_at_ = 0;  // the last two are numbers of pieces; 0: none
  std::string error_;                                             // empty while the device has not failed
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace causeway::testing

#endif  // CAUSEWAY_TESTS_SUPPORT_LATE_QUEUE_H_
