#include "server/telemetry/log_queue.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/string_view.h"

namespace causeway {
namespace {

// False where nobody will ever read it. Waits as long as it takes.
bool Write(int descriptor, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      pollfd wait = {descriptor, POLLOUT, 0};
      ::poll(&wait, 1, -1);
      continue;
    }
    if (written < 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

LogQueue* LogQueue::Make(int descriptor, size_t bytes_max) {
  auto* queue = new LogQueue(descriptor, bytes_max);
  // The thread takes no signals: those are for whoever waits for them, which starts later.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([queue] { queue->Run(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return queue;
}

LogQueue::LogQueue(int descriptor, size_t bytes_max) : descriptor_(descriptor), bytes_max_(bytes_max) {}

void LogQueue::Push(std::string line) {
  absl::MutexLock lock(&mutex_);
  if (bytes_ + line.size() > bytes_max_) {
    ++dropped_;
    return;
  }
  bytes_ += line.size();
  lines_.push_back(std::move(line));
}

void LogQueue::Flush(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &LogQueue::IsWritten), timeout);
}

bool LogQueue::half_empty() const {
  absl::MutexLock lock(&mutex_);
  return bytes_ <= bytes_max_ / 2;
}

int64_t LogQueue::dropped() const {
  absl::MutexLock lock(&mutex_);
  return dropped_;
}

void LogQueue::Run() {
  mutex_.Lock();
  while (true) {
    mutex_.Await(absl::Condition(this, &LogQueue::HasLines));
    const std::string line = std::move(lines_.front());
    lines_.pop_front();
    writing_ = true;
    mutex_.Unlock();
    const bool written = Write(descriptor_, line);
    mutex_.Lock();
    writing_ = false;
    bytes_ -= line.size();
    if (!written) ++dropped_;
  }
}

}  // namespace causeway
