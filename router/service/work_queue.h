#pragma once

// WorkQueue: a few threads for what would hold up gRPC's own: tokenising long prompts.

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace deltaserve {

// Threads: any. Owner: InferenceService.
class WorkQueue {
 public:
  // `num_threads` >= 1; at most `limit` tasks wait.
  WorkQueue(int num_threads, size_t limit);
  // Runs what still waits, then ends the threads.
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // False, and `task` is dropped, where the queue is full.
  bool Post(std::function<void()> task);

 private:
  void Loop();

  const size_t limit_;
  absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace deltaserve
