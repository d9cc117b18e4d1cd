// Tells the thread sanitizer of the locks of a libabsl that was not built with it, as Debian's is
// not: without this every use of absl::Mutex looks like a race. Linked into tests of the preset
// tsan, where these definitions are found before the library's, and call them.

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace absl {
namespace {

constexpr unsigned kRead = __tsan_mutex_read_lock;
constexpr unsigned kTry = __tsan_mutex_try_lock;
constexpr unsigned kTryFailed = __tsan_mutex_try_lock_failed;

// The library's own definition of the function `name`; members take `this` first.
template <typename Function>
Function Library(const char* name) {
  void* const symbol = dlsym(RTLD_NEXT, name);
  if (symbol == nullptr) std::abort();
  return reinterpret_cast<Function>(symbol);
}

#define DS_LIBRARY(type, name) static const auto library = Library<type>(name)

// Calls of the library into itself come back here; only the outermost is told of.
thread_local int depth = 0;

class Inside {
 public:
  Inside() : outermost_(depth++ == 0) {}
  ~Inside() { --depth; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  bool outermost() const { return outermost_; }

 private:
  const bool outermost_;
};

// Runs `lock`, which takes the lock.
template <typename Lock>
void Locking(void* mutex, unsigned flags, Lock lock) {
  const Inside inside;
  if (inside.outermost()) __tsan_mutex_pre_lock(mutex, flags);
  lock();
  if (inside.outermost()) __tsan_mutex_post_lock(mutex, flags, 0);
}

// Runs `unlock`, which gives the lock up, and runs the conditions of those who wait for it.
template <typename Unlock>
void Unlocking(void* mutex, unsigned flags, Unlock unlock) {
  const Inside inside;
  if (inside.outermost()) __tsan_mutex_pre_unlock(mutex, flags);
  unlock();
  if (inside.outermost()) __tsan_mutex_post_unlock(mutex, flags);
}

// Runs `wait`, which gives the lock up, waits and takes it again.
template <typename Wait>
auto Waiting(void* mutex, Wait wait) {
  const Inside inside;
  if (!inside.outermost()) return wait();
  __tsan_mutex_pre_unlock(mutex, 0);
  __tsan_mutex_post_unlock(mutex, 0);
  __tsan_mutex_pre_lock(mutex, 0);
  const auto result = wait();
  __tsan_mutex_post_lock(mutex, 0, 0);
  return result;
}

}  // namespace

Mutex::~Mutex() {
  DS_LIBRARY(void (*)(Mutex*), "_ZN4absl7debian35MutexD1Ev");
  __tsan_mutex_destroy(this, 0);
  library(this);
}

bool Mutex::TryLock() {
  DS_LIBRARY(bool (*)(Mutex*), "_ZN4absl7debian35Mutex7TryLockEv");
  __tsan_mutex_pre_lock(this, kTry);
  const bool locked = library(this);
  __tsan_mutex_post_lock(this, locked ? kTry : kTry | kTryFailed, 0);
  return locked;
}

void Mutex::Lock() {
  DS_LIBRARY(void (*)(Mutex*), "_ZN4absl7debian35Mutex4LockEv");
  Locking(this, 0, [&] { library(this); });
}

void Mutex::Unlock() {
  DS_LIBRARY(void (*)(Mutex*), "_ZN4absl7debian35Mutex6UnlockEv");
  Unlocking(this, 0, [&] { library(this); });
}

void Mutex::ReaderLock() {
  DS_LIBRARY(void (*)(Mutex*), "_ZN4absl7debian35Mutex10ReaderLockEv");
  Locking(this, kRead, [&] { library(this); });
}

void Mutex::ReaderUnlock() {
  DS_LIBRARY(void (*)(Mutex*), "_ZN4absl7debian35Mutex12ReaderUnlockEv");
  Unlocking(this, kRead, [&] { library(this); });
}

void Mutex::LockWhen(const Condition& condition) {
  using Function = void (*)(Mutex*, const Condition&);
  DS_LIBRARY(Function, "_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE");
  Locking(this, 0, [&] { library(this, condition); });
}

void Mutex::ReaderLockWhen(const Condition& condition) {
  using Function = void (*)(Mutex*, const Condition&);
  DS_LIBRARY(Function, "_ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE");
  Locking(this, kRead, [&] { library(this, condition); });
}

void Mutex::Await(const Condition& condition) {
  using Function = void (*)(Mutex*, const Condition&);
  DS_LIBRARY(Function, "_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
  Waiting(this, [&] {
    library(this, condition);
    return true;
  });
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  using Function = bool (*)(Mutex*, const Condition&, Duration);
  DS_LIBRARY(Function, "_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return Waiting(this, [&] { return library(this, condition, timeout); });
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  using Function = bool (*)(Mutex*, const Condition&, Time);
  DS_LIBRARY(Function, "_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return Waiting(this, [&] { return library(this, condition, deadline); });
}

void CondVar::Wait(Mutex* mutex) {
  using Function = void (*)(CondVar*, Mutex*);
  DS_LIBRARY(Function, "_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
  Waiting(mutex, [&] {
    library(this, mutex);
    return true;
  });
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  using Function = bool (*)(CondVar*, Mutex*, Duration);
  DS_LIBRARY(Function, "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  return Waiting(mutex, [&] { return library(this, mutex, timeout); });
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  using Function = bool (*)(CondVar*, Mutex*, Time);
  DS_LIBRARY(Function, "_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  return Waiting(mutex, [&] { return library(this, mutex, deadline); });
}

void Notification::Notify() {
  DS_LIBRARY(void (*)(Notification*), "_ZN4absl7debian312Notification6NotifyEv");
  const Inside inside;
  __tsan_release(this);
  library(this);
}

void Notification::WaitForNotification() const {
  using Function = void (*)(const Notification*);
  DS_LIBRARY(Function, "_ZNK4absl7debian312Notification19WaitForNotificationEv");
  const Inside inside;
  library(this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  using Function = bool (*)(const Notification*, Duration);
  DS_LIBRARY(Function,
             "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const Inside inside;
  const bool notified = library(this, timeout);
  __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  using Function = bool (*)(const Notification*, Time);
  DS_LIBRARY(Function,
             "_ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE");
  const Inside inside;
  const bool notified = library(this, deadline);
  __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

}  // namespace absl
