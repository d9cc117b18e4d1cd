// A world as small as can be, of which one rank comes to an end: world_end_test.py watches.
//
// usage: world_probe MODE VICTIM

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_device.h"
#include "worker/comm/control_link.h"
#include "worker/comm/last_words.h"
#include "worker/comm/mpi_world.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/shared_communicator.h"
#include "worker/comm/watchdog.h"

namespace deltaserve {
namespace {

constexpr uint32_t kIdlePlan = 1;
constexpr uint32_t kStopPlan = 2;

struct Probe {
  MpiWorld& world;
  LastWords& last_words;
  Watchdog& watchdog;
  ControlLink& link;
  PlanChannel& plans;
  Communicator& communicator;
  bool victim = false;

  int rank() const { return world.info().rank; }
};

void WaitForEver() {
  while (true) pause();
}

// An idle world: rank 0 has said so and waits for requests, the others for a wake.
void SleepIdle(Probe& probe, int signal) {
  PlanMessage message;
  if (probe.rank() == 0) {
    DS_CHECK_OK(probe.plans.Send(kIdlePlan, {}));
  } else {
    DS_CHECK_OK(probe.plans.Receive(&message));
  }
  probe.watchdog.Idle();
  if (probe.victim) kill(getpid(), signal);
  if (probe.rank() == 0) WaitForEver();
  const absl::Status status = probe.link.WaitForWake(absl::InfiniteFuture());
  (void)status;  // the end comes from the link's own thread
  WaitForEver();
}

// Sums without end; the victim leaves the others in the middle of one.
void LoopCollectives(Probe& probe) {
  Buffer exchange = probe.communicator.AllocateExchange(size_t{1} << 20).value();
  const TensorView tensor = exchange.View(DType::kF32, {1 << 18});
  for (uint64_t step = 1;; ++step) {
    probe.watchdog.StepStarted(step, absl::ZeroDuration());
    if (probe.victim && step == 50) kill(getpid(), SIGKILL);
    probe.communicator.AllReduceSum(tensor);
    probe.watchdog.StepFinished();
  }
}

// A drain as a real world does it.
void Stop(Probe& probe) {
  PlanMessage message;
  if (probe.rank() == 0) {
    DS_CHECK_OK(probe.plans.Send(kIdlePlan, {}));
    probe.link.Wake();
    DS_CHECK_OK(probe.plans.Send(kStopPlan, {}));
  } else {
    DS_CHECK_OK(probe.plans.Receive(&message));
    DS_CHECK_OK(probe.link.WaitForWake(absl::InfiniteFuture()));
    DS_CHECK_OK(probe.plans.Receive(&message));
    DS_CHECK_EQ(message.kind, kStopPlan);
  }
}

int Run(Probe& probe, const std::string& mode) {
  if (mode == "kill-idle") SleepIdle(probe, SIGKILL);
  if (mode == "stop-idle") SleepIdle(probe, SIGSTOP);
  if (mode == "kill-collective") LoopCollectives(probe);
  if (mode == "die" && probe.victim) {
    probe.last_words.Die(kExitDivergence, "plan after step 4: step is 6, expected 5");
  }
  if (mode == "die") SleepIdle(probe, 0);
  if (mode == "hang") {
    // The victim's step never ends, so the others wait in MPI.
    probe.watchdog.StepStarted(9, probe.victim ? absl::ZeroDuration() : absl::Seconds(100));
    if (probe.victim) WaitForEver();
    probe.world.Barrier();
  }
  if (mode == "stop") Stop(probe);
  probe.watchdog.Idle();
  return 0;
}

int Main(int argc, char** argv) {
  auto created = MpiWorld::Create(&argc, &argv);
  if (!created.ok() || argc != 3) return kExitConfiguration;
  MpiWorld& world = **created;
  const std::string mode = argv[1];

  // When one rank ends mpirun sends the others SIGTERM, and SIGKILL a second later: time enough for
  // last words.
  std::signal(SIGTERM, SIG_IGN);

  LastWords last_words(world.info(), {});
  ControlLinkOptions options;
  options.heartbeat = absl::Milliseconds(200);
  options.silence = absl::Seconds(2);
  auto link = CreateTcpControlLink(world, options,
                                   [&](const PeerLoss& loss) { last_words.DieOfPeer(loss); });
  DS_CHECK_OK(link.status());
  last_words.SetFarewell([&](const PeerLoss& root) { (*link)->SendLastWords(root); });
  WatchdogOptions watchdog_options;
  watchdog_options.step_floor = absl::Seconds(1);
  Watchdog watchdog(last_words, watchdog_options);

  const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
  const auto communicator = CreateSharedCommunicator(world, *device).value();
  const auto plans = CreateMpiPlanChannel(world);
  Probe probe = {.world = world,
                 .last_words = last_words,
                 .watchdog = watchdog,
                 .link = **link,
                 .plans = *plans,
                 .communicator = *communicator,
                 .victim = world.info().rank == std::atoi(argv[2])};
  printf("rank %d pid %d\n", probe.rank(), static_cast<int>(getpid()));
  fflush(stdout);
  world.Barrier();  // all have told their pid
  const int code = Run(probe, mode);
  (*link)->Close();
  last_words.SetFarewell(nullptr);
  return code;
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
