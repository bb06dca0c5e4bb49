#include "tests/support/late_queue.h"

#include <exception>
#include <utility>

#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

namespace causeway::testing {

LateQueue::LateQueue(std::string name, LateOptions options, const std::function<void()>& enter)
    : name_(std::move(name)), options_(options), random_(options.seed), thread_([this, enter] { Loop(enter); }) {}

LateQueue::~LateQueue() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LateQueue::Push(std::function<void()> work, LatePlace place) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (pushed_ + 1 == refuse_at_) {
    refuse_at_ = 0;
    TORCH_CHECK_WITH(OutOfMemoryError, false, name_, ": out of memory");
  }
  work_.push_back({std::move(work), place});
  ++pushed_;
  changed_.notify_all();
}

uint64_t LateQueue::pushed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return pushed_;
}

void LateQueue::Wait(uint64_t count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return done_ >= count || !error_.empty(); });
  TORCH_CHECK(error_.empty(), name_, ": ", error_);
}

std::string LateQueue::error() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

void LateQueue::FailAt(uint64_t more) {
  std::lock_guard<std::mutex> lock(mutex_);
  fail_at_ = pushed_ + more + 1;
}

void LateQueue::RefuseAt(uint64_t more) {
  std::lock_guard<std::mutex> lock(mutex_);
  refuse_at_ = pushed_ + more + 1;
}

std::chrono::microseconds LateQueue::NextDelay(LatePlace place) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::chrono::microseconds late = place == options_.late_at ? options_.late_by : std::chrono::microseconds(0);
  // Half of the work follows at once, as most of a GPU's work does.
  if (options_.delay_max.count() == 0 || random_() % 2 == 0) return late;
  return late + std::chrono::microseconds(random_() % options_.delay_max.count());
}

void LateQueue::Delay(LatePlace place) {
  if (const std::chrono::microseconds delay = NextDelay(place); delay.count() > 0) std::this_thread::sleep_for(delay);
}

void LateQueue::Loop(const std::function<void()>& enter) {
  c10::InferenceMode inference;
  enter();
  while (true) {
    Piece piece;
    bool fails = false;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || !work_.empty(); });
      if (work_.empty()) return;
      piece = std::move(work_.front());
      work_.pop_front();
      fails = !error_.empty() || done_ + 1 == fail_at_;
    }
    std::string error;
    if (fails) {
      error = "an illegal memory access was encountered";
    } else {
      Delay(piece.place);
      try {
        piece.work();
      } catch (const std::exception& thrown) {
        error = thrown.what();
      }
    }
    piece.work = nullptr;  // frees what the work holds before anyone learns that it is done
    std::lock_guard<std::mutex> lock(mutex_);
    ++done_;
    if (error_.empty()) error_ = std::move(error);
    changed_.notify_all();
  }
}

}  // namespace causeway::testing
