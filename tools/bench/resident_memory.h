#pragma once

// How much memory this process has had in RAM, without what a bench takes for itself.

#include <cstdint>

namespace deltaserve::bench {

// Main thread; Linux.
class ResidentMemory {
 public:
  // Begins with the most that there was so far (VmHWM): the loading of weights, say.
  ResidentMemory();

  // Takes what there is now (VmRSS) into account, without `bytes` that the bench itself holds.
  void Note(int64_t bytes);

  int64_t most_bytes() const { return most_; }

 private:
  int64_t most_ = 0;
};

}  // namespace deltaserve::bench
