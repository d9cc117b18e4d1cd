#pragma once

// launch.h's Queue and Launch over the shim. Include launch.h instead.

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/cuda/shim/fibers.h"

namespace deltaserve::cuda {

// Work that is done, in order, only when the host waits for it: as late as a GPU may do it, so that
// host code finds out what it must not touch before. Its owner calls Run(). Any one thread.
class Queue {
 public:
  // The orders of threads and blocks follow from `seed`.
  explicit Queue(uint64_t seed) : seed_(seed) {}

  // Few, so that grids that fill them go round more than once.
  int num_multiprocessors() const { return 4; }

  void Enqueue(std::function<void()> work) {
    work_.push_back(std::move(work));
    ++enqueued_;
  }
  // All that has been enqueued, or what was before the call that Enqueued() tells of.
  void Run() { Run(enqueued_); }
  void Run(uint64_t enqueued) {
    while (enqueued_ - work_.size() < enqueued) {
      const std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      work();
    }
  }
  uint64_t Enqueued() const { return enqueued_; }
  uint64_t NextSeed() { return seed_++; }

 private:
  std::deque<std::function<void()>> work_;
  uint64_t enqueued_ = 0;  // ever
  uint64_t seed_;
};

namespace shim {

// "Launch<&Kernel<3>>" from the compiler's words for the instance of Launch.
inline std::string KernelName(const std::string& launch) {
  const std::string before = "kKernel = ";
  const size_t begin = launch.find(before);
  if (begin == std::string::npos) return launch;
  const std::string name = launch.substr(begin + before.size());
  return name.substr(0, name.find(';'));
}

}  // namespace shim

template <auto kKernel, typename... Args>
void Launch(Queue& queue, dim3 grid, dim3 block, size_t shared_bytes, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  using Arguments = std::tuple<Args...>;
  shim::Grid launch{.kernel = shim::KernelName(static_cast<const char*>(__PRETTY_FUNCTION__)),
                    .grid = grid,
                    .block = block,
                    .shared_bytes = shared_bytes,
                    .seed = queue.NextSeed(),
                    .thread = [](void* arguments) {
                      std::apply(kKernel, *static_cast<const Arguments*>(arguments));
                    }};
  shim::CheckSizes(launch);
  queue.Enqueue([launch, arguments = Arguments(args...)]() mutable {
    launch.arguments = &arguments;
    shim::RunGrid(launch);
  });
}

}  // namespace deltaserve::cuda
