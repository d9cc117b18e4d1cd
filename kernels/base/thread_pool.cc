#include "kernels/base/thread_pool.h"

#include <algorithm>
#include <chrono>

#include "kernels/base/check.h"

namespace deltaserve {
namespace {

constexpr std::chrono::microseconds kSpin(50);
constexpr int kPausesPerClockRead = 32;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Returns when `word` no longer holds `old`: spins for kSpin, then sleeps until notified.
void AwaitChange(const std::atomic<uint32_t>& word, uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (word.load(std::memory_order_acquire) != old) {
        return;
      }
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  word.wait(old, std::memory_order_acquire);
}

// A core that is refused leaves the thread where it may run: slower, not wrong.
void Pin(std::thread& thread, int core) {
  const auto index = static_cast<size_t>(core);
  const size_t bytes = CPU_ALLOC_SIZE(index + 1);
  cpu_set_t* const set = CPU_ALLOC(index + 1);
  if (set == nullptr) return;
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(index, bytes, set);
  pthread_setaffinity_np(thread.native_handle(), bytes, set);
  CPU_FREE(set);
}

}  // namespace

struct ThreadPool::Job {
  int64_t n;
  int64_t grain;
  int64_t grains;
  int parts;
  Body body;
};

ThreadPool::ThreadPool(int num_threads, const std::vector<int>& cores) : num_threads_(num_threads) {
  DS_CHECK_GE(num_threads, 1);
  DS_CHECK(cores.empty() || cores.size() == static_cast<size_t>(num_threads)) << cores.size();
  const auto started = static_cast<size_t>(num_threads - 1);
  mailboxes_ = std::make_unique<Mailbox[]>(started);
  threads_.reserve(started);
  for (int thread = 1; thread < num_threads; ++thread) {
    threads_.emplace_back([this, thread] { WorkerLoop(thread); });
    if (!cores.empty()) Pin(threads_.back(), cores[static_cast<size_t>(thread)]);
  }
}

ThreadPool::~ThreadPool() {
  DS_CHECK(!busy_.load()) << "a pool ends while a loop runs on it";
  stopping_ = true;
  for (size_t i = 0; i < threads_.size(); ++i) {
    mailboxes_[i].ticket.fetch_add(1, std::memory_order_release);
    mailboxes_[i].ticket.notify_one();
    threads_[i].join();
  }
}

void ThreadPool::ParallelFor(int64_t n, int64_t grain, Body body) {
  DS_CHECK_GE(n, 0);
  DS_CHECK_GE(grain, 1);
  if (n == 0) {
    return;
  }
  DS_CHECK(!busy_.exchange(true, std::memory_order_acquire))
      << "two loops at once on one pool, or a loop within a loop";
  const int64_t grains = n / grain + (n % grain != 0 ? 1 : 0);
  const int parts = static_cast<int>(std::min<int64_t>(grains, num_threads_));
  const Job job{.n = n, .grain = grain, .grains = grains, .parts = parts, .body = body};
  job_ = &job;
  unfinished_.store(static_cast<uint32_t>(parts - 1), std::memory_order_relaxed);
  for (int thread = 1; thread < parts; ++thread) {
    std::atomic<uint32_t>& ticket = mailboxes_[static_cast<size_t>(thread - 1)].ticket;
    ticket.fetch_add(1, std::memory_order_release);
    ticket.notify_one();
  }
  RunPart(job, 0);
  for (;;) {
    const uint32_t left = unfinished_.load(std::memory_order_acquire);
    if (left == 0) {
      break;
    }
    AwaitChange(unfinished_, left);
  }
  busy_.store(false, std::memory_order_release);
}

void ThreadPool::WorkerLoop(int thread) {
  const std::atomic<uint32_t>& ticket = mailboxes_[static_cast<size_t>(thread - 1)].ticket;
  for (uint32_t seen = 0;; ++seen) {
    AwaitChange(ticket, seen);
    if (stopping_) {
      return;
    }
    RunPart(*job_, thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      unfinished_.notify_one();
    }
  }
}

void ThreadPool::RunPart(const Job& job, int part) {
  const int64_t begin = job.grains * part / job.parts * job.grain;
  const int64_t end = std::min(job.n, job.grains * (part + 1) / job.parts * job.grain);
  job.body(begin, end, part);
}

}  // namespace deltaserve
