#include "client/load.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace causeway {
namespace {

class Senders {
 public:
  explicit Senders(const std::function<void(int)>& send) : send_(send) {}

  // Allows `requests` more to be sent. Returns how many of all that wait have no thread free for them.
  int Arrive(int requests) {
    absl::MutexLock lock(&mutex_);
    arrived_ += requests;
    return arrived_ - taken_ - idle_;
  }
  absl::Status AddThread() {
    try {
      threads_.emplace_back([this] { Work(); });
      return absl::OkStatus();
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot start thread ", threads_.size() + 1, " (", error.what(), ")"));
    }
  }
  // Waits for all that has arrived, or with `now` only for what has begun.
  void Finish(bool now) {
    {
      absl::MutexLock lock(&mutex_);
      if (now) arrived_ = taken_;
      finishing_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }
  int threads() const { return static_cast<int>(threads_.size()); }

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return taken_ < arrived_ || finishing_; }

  void Work() {
    absl::MutexLock lock(&mutex_);
    for (;;) {
      ++idle_;
      mutex_.Await(absl::Condition(this, &Senders::Ready));
      --idle_;
      if (taken_ == arrived_) return;
      const int request = taken_++;
      mutex_.Unlock();
      send_(request);
      mutex_.Lock();
    }
  }

  const std::function<void(int)>& send_;
  std::vector<std::thread> threads_;
  absl::Mutex mutex_;
  int arrived_ ABSL_GUARDED_BY(mutex_) = 0, taken_ ABSL_GUARDED_BY(mutex_) = 0;  // numbers of requests
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;                                         // number of threads
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::Status SendAtArrivals(const std::vector<double>& arrivals_seconds, int threads_max,
                            const std::function<void(int)>& send) {
  Senders senders(send);
  absl::Status status;
  const absl::Time start = absl::Now();
  for (size_t i = 0; i < arrivals_seconds.size() && status.ok(); ++i) {
    absl::SleepFor(start + absl::Seconds(arrivals_seconds[i]) - absl::Now());
    if (senders.Arrive(1) <= 0) continue;
    status = senders.threads() < threads_max
                 ? senders.AddThread()
                 : absl::ResourceExhaustedError(absl::StrCat(threads_max, " requests are under way"));
    if (!status.ok()) {
      status = absl::ResourceExhaustedError(
          absl::StrCat(status.message(), " when request ", i + 1, " of ", arrivals_seconds.size(),
                       " arrived: the answers fall behind; choose a lower rate or fewer requests"));
    }
  }
  senders.Finish(/*now=*/!status.ok());
  return status;
}

absl::Status SendAtOnce(int requests, int concurrency, const std::function<void(int)>& send) {
  Senders senders(send);
  senders.Arrive(requests);
  absl::Status status;
  for (int t = 0; t < std::min(concurrency, requests) && status.ok(); ++t) status = senders.AddThread();
  senders.Finish(/*now=*/!status.ok());
  return status;
}

}  // namespace causeway
