#pragma once

// A stack of its own and the switch between such stacks, told to the sanitizers. No threads of the
// system are involved.

#include <cstddef>
#include <memory>

namespace deltaserve::cuda::shim {

// One owner switches into a Fiber, and the fiber switches back; both on one thread at a time.
class Fiber {
 public:
  // `body` runs on the first Resume() and never returns. Maps its stack; a page below it stops a
  // thread that needs more.
  explicit Fiber(void (*body)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the fiber until it calls Suspend().
  void Resume();
  // Called on the fiber: goes back to whoever resumed it.
  void Suspend();

 private:
  struct State;
  static void Start();

  void (*body_)();
  std::unique_ptr<State> state_;
};

}  // namespace deltaserve::cuda::shim
