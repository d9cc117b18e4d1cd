#pragma once

// A mixed load of a 2-rank world behind a router, and what must hold under it and after it. The
// short and the long test differ in its duration alone.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace deltaserve::test {

struct SoakOptions {
  absl::Duration duration;
  uint64_t seed = 1;  // of every choice; when a request meets another is the machine's
  int clients = 10;   // besides the one that sends bursts and the one that breaks connections off
  // Most by which a process's memory may be larger in the last third than in the middle one.
  int64_t most_growth_bytes = 0;
};

struct SoakReport {
  std::vector<std::string> faults;  // what did not hold; empty is good
  std::string numbers;              // requests by outcome, memory of each process
};

// Clients ask, chat, cancel, run out of time, abort, read slowly, send what is wrong, come in
// bursts beyond the queue and die. Looked for: a stream without an end, an answer that differs from
// the one when alone (not on GPUs), a refusal that says too little, and, once all is over, a block,
// slot, thread, descriptor or process left, memory that grew, a line of log that tells of an error.
SoakReport RunSoak(const SoakOptions& options);

}  // namespace deltaserve::test
