#pragma once

// One failure of a world over two hosts under 16 streams, from the fault to the last check.

#include <functional>
#include <string>

#include "absl/time/time.h"
#include "tests/system/hosts/hosted_world.h"

namespace deltaserve::test {

struct Failure {
  std::string cause;        // what the supervisor's root cause holds: rank and host
  absl::Duration promised;  // until no process of the world is left; asserted at three times that
  std::function<void(HostedWorld&)> strike;
  // Once all is gone; empty: nothing to mend.
  std::function<void(HostedWorld&)> mend = {};
};

// Starts a world, 16 streams, and strikes. Expects: every process of the world gone, on both hosts;
// streams ended WORLD_LOST, retryable, their tokens in order, none twice and a beginning of the
// whole answer; the cause told; served again by the same router; nothing left behind after a drain.
void ExpectRecovery(const Failure& failure);

// Prints what was measured, and keeps it as a property of the test.
void Note(const std::string& name, absl::Duration value);

}  // namespace deltaserve::test
