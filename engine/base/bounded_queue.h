// A first-in first-out queue of bounded length between threads.
#ifndef CAUSEWAY_ENGINE_BASE_BOUNDED_QUEUE_H_
#define CAUSEWAY_ENGINE_BASE_BOUNDED_QUEUE_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace causeway {

// Thread-safe: any number of producers and consumers. T is moved in and out.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Waits for room. Returns false, and leaves `item` untouched, once the queue is closed.
  bool Push(T&& item) {
    std::unique_lock<std::mutex> lock(mutex_);
    room_.wait(lock, [this] { return closed_ || items_.size() < capacity_; });
    if (closed_) return false;
    items_.push_back(std::move(item));
    item_.notify_one();
    return true;
  }

  // Waits for an item. Returns nullopt once the queue is closed and empty.
  std::optional<T> Pop() {
    std::unique_lock<std::mutex> lock(mutex_);
    item_.wait(lock, [this] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    room_.notify_one();
    return item;
  }

  // Whether Pop would find no item now.
  bool empty() {
    std::lock_guard<std::mutex> lock(mutex_);
    return items_.empty();
  }

  // Refuses further items; those inside can still be popped.
  void Close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    room_.notify_all();
    item_.notify_all();
  }

 private:
  const size_t capacity_;
  // This is the standard's mutex and not Abseil's, because the thread sanitizer does not see into Debian's Abseil.
  std::mutex mutex_;
  std::condition_variable room_, item_;
  std::deque<T> items_;  // guarded by mutex_, as is the next
  bool closed_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_BOUNDED_QUEUE_H_
