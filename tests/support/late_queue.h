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

struct LateOptions {
  uint64_t seed = 1;
  std::chrono::microseconds delay_max{50};  // before a piece of work, chosen at random from 0 on
};

// Work is done in order on a thread of its own. Thread-safe.
class LateQueue {
 public:
  // `enter` is the first that its thread does.
  LateQueue(std::string name, LateOptions options, const std::function<void()>& enter);
  ~LateQueue();  // after the work that is queued

  // Queues `work` and returns at once. Throws c10::OutOfMemoryError where RefuseAt says so.
  void Push(std::function<void()> work);
  // How much has been pushed: what Wait is given.
  uint64_t pushed() const;
  // Waits until so much is done. Throws c10::Error once the device has failed, as everything from then on does.
  void Wait(uint64_t count);

  // The piece of work that is pushed after `more` others fails, and with it the device: nothing is done any more.
  void FailAt(uint64_t more);
  // Push throws once, after `more` others: no memory is left.
  void RefuseAt(uint64_t more);
  // Sleeps for up to delay_max; the calling thread's own delay.
  void Delay();

 private:
  void Loop(const std::function<void()>& enter);
  std::chrono::microseconds NextDelay();

  const std::string name_;
  const LateOptions options_;
  mutable std::mutex mutex_;  // guards all that follows; the thread sanitizer sees the standard's
  std::condition_variable changed_;
  std::mt19937_64 random_;
  std::deque<std::function<void()>> work_;
  uint64_t pushed_ = 0, done_ = 0, fail_at_ = 0, refuse_at_ = 0;  // the last two by the number of the piece; 0: none
  std::string error_;                                             // empty: the device has not failed
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace causeway::testing

#endif  // CAUSEWAY_TESTS_SUPPORT_LATE_QUEUE_H_
