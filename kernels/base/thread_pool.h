#pragma once

// A small fixed pool for the loops of CPU ops: one static split per call, no allocation, no queue.

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace deltaserve {

// Runs loops on `num_threads` threads, of which the caller is thread 0. Waiting threads spin for
// about 50 us and then sleep in the kernel, so a pool without work takes no processor time.
//
// Threads: ParallelFor may be called from any thread but from one at a time, and not from within a
// loop body; both are checked. Owner: one a rank, made in main, outlives everything that uses it.
class ThreadPool {
 public:
  // body(begin, end, thread): runs the indices [begin, end) on thread `thread`.
  using Body = absl::FunctionRef<void(int64_t begin, int64_t end, int thread)>;

  // `num_threads` >= 1; starts num_threads - 1 threads. `cores`, unless empty: the core that each
  // thread is pinned to. The first is for the caller, who is left where he is: threads that he
  // starts for other work would be pinned with him.
  explicit ThreadPool(int num_threads, const std::vector<int>& cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls `body` so that every index of [0, n) is run once, and returns when all are done. n >= 0.
  // The split depends on (n, grain, num_threads) alone: ceil(n / grain) grains in consecutive runs
  // of nearly equal length, at most one run a thread, every run but the last ending at a multiple
  // of `grain` >= 1. At most one call of `body` a thread; n = 0 makes none.
  void ParallelFor(int64_t n, int64_t grain, Body body);

  // ParallelFor with a grain of 1.
  void ParallelFor(int64_t n, Body body) { ParallelFor(n, 1, body); }

 private:
  struct Job;

  // What the caller writes to one waiting thread; a cache line each.
  struct alignas(64) Mailbox {
    std::atomic<uint32_t> ticket{0};
  };

  void WorkerLoop(int thread);
  static void RunPart(const Job& job, int part);

  const int num_threads_;
  std::unique_ptr<Mailbox[]> mailboxes_;  // one per started thread
  const Job* job_ = nullptr;              // published by a ticket, read by the threads it went to
  bool stopping_ = false;                 // published in the same way
  alignas(64) std::atomic<uint32_t> unfinished_{0};
  std::atomic<bool> busy_{false};
  std::vector<std::thread> threads_;
};

}  // namespace deltaserve
