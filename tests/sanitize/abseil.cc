// Tells the thread sanitizer of Abseil's locks. Distributions build Abseil without the sanitizer, so that a lock orders
// nothing for it. These functions take the place of the library's functions of the same names, call them, and report
// what they have done. gRPC's locks are Abseil's, so they are covered, too. Builds with the thread sanitizer link this
// file into their tests.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

#define CAUSEWAY_TEXT_OF(x) #x
#define CAUSEWAY_TEXT(x) CAUSEWAY_TEXT_OF(x)

namespace {

// Finds the library's function by the rest of its name, as the compiler writes it.
template <typename Function>
Function* Real(const char* rest) {
  const std::string space = CAUSEWAY_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const bool constant = rest[0] == 'K';  // a const member function
  const std::string name = std::string(constant ? "_ZNK" : "_ZN") + "4absl" + std::to_string(space.size()) + space +
                           (constant ? rest + 1 : rest);
  void* const found = dlsym(RTLD_NEXT, name.c_str());
  if (found == nullptr) {
    std::fprintf(stderr, "tests/sanitize/abseil.cc: Abseil has no %s\n", name.c_str());
    std::abort();
  }
  return reinterpret_cast<Function*>(found);
}

// Stands around a call that releases the mutex and takes it again. The sanitizer ignores what conditions read
// meanwhile: in the library, the thread that unlocks evaluates them. The library calls one such function by another,
// hence the depth.
class LetGo {
 public:
  explicit LetGo(void* mutex) : mutex_(mutex) {
    if (depth_++ == 0) __tsan_mutex_pre_unlock(mutex_, 0);
  }
  ~LetGo() {
    if (--depth_ > 0) return;
    __tsan_mutex_post_unlock(mutex_, 0);
    __tsan_mutex_pre_lock(mutex_, 0);
    __tsan_mutex_post_lock(mutex_, 0, 0);
  }

 private:
  static thread_local int depth_;
  void* const mutex_;
};
thread_local int LetGo::depth_ = 0;

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto real = Real<void(Mutex*)>("5Mutex4LockEv");
  __tsan_mutex_pre_lock(this, 0);
  real(this);
  __tsan_mutex_post_lock(this, 0, 0);
}

void Mutex::Unlock() {
  static const auto real = Real<void(Mutex*)>("5Mutex6UnlockEv");
  __tsan_mutex_pre_unlock(this, 0);
  real(this);
  __tsan_mutex_post_unlock(this, 0);
}

bool Mutex::TryLock() {
  static const auto real = Real<bool(Mutex*)>("5Mutex7TryLockEv");
  __tsan_mutex_pre_lock(this, __tsan_mutex_try_lock);
  const bool locked = real(this);
  __tsan_mutex_post_lock(this, locked ? __tsan_mutex_try_lock : __tsan_mutex_try_lock_failed, 0);
  return locked;
}

void Mutex::LockWhen(const Condition& condition) {
  static const auto real = Real<void(Mutex*, const Condition&)>("5Mutex8LockWhenERKNS0_9ConditionE");
  __tsan_mutex_pre_lock(this, 0);
  real(this, condition);
  __tsan_mutex_post_lock(this, 0, 0);
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  static const auto real =
      Real<bool(Mutex*, const Condition&, Time)>("5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  __tsan_mutex_pre_lock(this, 0);
  const bool held = real(this, condition, deadline);
  __tsan_mutex_post_lock(this, 0, 0);
  return held;
}

void Mutex::Await(const Condition& condition) {
  static const auto real = Real<void(Mutex*, const Condition&)>("5Mutex5AwaitERKNS0_9ConditionE");
  const LetGo go(this);
  real(this, condition);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static const auto real =
      Real<bool(Mutex*, const Condition&, Duration)>("5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  const LetGo go(this);
  return real(this, condition, timeout);
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  static const auto real =
      Real<bool(Mutex*, const Condition&, Time)>("5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  const LetGo go(this);
  return real(this, condition, deadline);
}

void CondVar::Wait(Mutex* mutex) {
  static const auto real = Real<void(CondVar*, Mutex*)>("7CondVar4WaitEPNS0_5MutexE");
  const LetGo go(mutex);
  real(this, mutex);
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto real = Real<bool(CondVar*, Mutex*, Time)>("7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  const LetGo go(mutex);
  return real(this, mutex, deadline);
}

void Notification::Notify() {
  static const auto real = Real<void(Notification*)>("12Notification6NotifyEv");
  __tsan_release(this);
  real(this);
}

void Notification::WaitForNotification() const {
  static const auto real = Real<void(const Notification*)>("K12Notification19WaitForNotificationEv");
  real(this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static const auto real =
      Real<bool(const Notification*, Duration)>("K12Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool notified = real(this, timeout);
  if (notified) __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl
