#include "tests/worker/engine/pretend_world.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_device.h"
#include "worker/comm/control_link.h"
#include "worker/comm/last_words.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/thread_communicator.h"
#include "worker/comm/watchdog.h"
#include "worker/engine/executor.h"
#include "worker/engine/follower.h"

namespace deltaserve {

// Members end in the reverse of the order in which they are made.
struct PretendWorld::Rank {
  int rank = 0;
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> comm;
  std::unique_ptr<Model> model;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<PlanChannel> channel;
  std::unique_ptr<ControlLink> link;
  std::unique_ptr<LastWords> last_words;
  std::unique_ptr<Watchdog> watchdog;
  std::unique_ptr<Engine> engine;  // rank 0
  absl::Status made;
  absl::Status ended;
  std::thread thread;
};

PretendWorld::PretendWorld(const PretendOptions& options)
    : options_(options), world_(options.ranks) {
  for (int rank = 0; rank < options.ranks; ++rank) {
    ranks_.push_back(std::make_unique<Rank>());
    ranks_.back()->rank = rank;
  }
}

absl::Status PretendWorld::Make(Rank& rank, const PretendModelFactory& factory) {
  World& world = world_.world(rank.rank);
  if (options_.make_device) {
    rank.device = options_.make_device(rank.rank);
  } else {
    DS_ASSIGN_OR_RETURN(rank.device, cpu::CreateCpuDevice({.num_threads = options_.threads_per_rank,
                                                           .quantization = options_.quantization}));
  }
  if (rank.rank == 0 && options_.wrap_device) {
    rank.device = options_.wrap_device(std::move(rank.device));
  }
  rank.comm = CreateThreadCommunicator(world_, rank.rank, *rank.device);
  absl::StatusOr<std::unique_ptr<Model>> model = factory(world, *rank.device);
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(model.status()));
  rank.model = *std::move(model);
  // No thread: what is late here shows as a test that does not end.
  rank.last_words = std::make_unique<LastWords>(world.info(), LastWords::Options{});
  WatchdogOptions watchdog;
  watchdog.period = absl::ZeroDuration();
  rank.watchdog = std::make_unique<Watchdog>(*rank.last_words, watchdog);
  DS_ASSIGN_OR_RETURN(rank.executor, Executor::Create(world, *rank.device, *rank.comm, *rank.model,
                                                      options_.engine, *rank.watchdog));
  if (absl::Status warm = rank.executor->WarmUp(world, *rank.watchdog); !warm.ok()) {
    world_.Stop();  // as the end of a rank's process
    return warm;
  }
  rank.channel = CreateThreadPlanChannel(world_, rank.rank);
  rank.link = CreateThreadControlLink(world_, rank.rank, [](const PeerLoss&) {});
  if (rank.rank == 0) {
    rank.engine = Engine::Create(*rank.executor, *rank.channel, *rank.link, *rank.watchdog,
                                 options_.observer);
    if (options_.prepare) options_.prepare(*rank.engine, *rank.executor, *rank.device);
  }
  return absl::OkStatus();
}

void PretendWorld::Report(Rank& rank, const absl::Status& status) {
  const absl::MutexLock lock(&mutex_);
  rank.made = status;
  ++num_made_;
}

void PretendWorld::RunRank(int index, const PretendModelFactory& factory) {
  Rank& rank = *ranks_[static_cast<size_t>(index)];
  const absl::Status made = Make(rank, factory);
  Report(rank, made);
  if (!made.ok()) return;
  if (rank.engine == nullptr) {
    rank.ended = RunFollower(*rank.executor, *rank.channel, *rank.link, *rank.watchdog);
  } else if (options_.loop) {
    StepRunner runner(*rank.executor, *rank.channel, *rank.link, *rank.watchdog);
    rank.ended = options_.loop(runner, *rank.executor, *rank.device);
  } else {
    rank.ended = rank.engine->Run();
  }
  if (!rank.ended.ok()) world_.Stop();
  rank.link->Close();
}

absl::StatusOr<std::unique_ptr<PretendWorld>> PretendWorld::Start(
    const PretendOptions& options, const PretendModelFactory& factory) {
  std::unique_ptr<PretendWorld> world(new PretendWorld(options));
  for (const auto& rank : world->ranks_) {
    rank->thread = std::thread([&, index = rank->rank] { world->RunRank(index, factory); });
  }
  {
    const absl::MutexLock lock(&world->mutex_);
    world->mutex_.Await(absl::Condition(world.get(), &PretendWorld::AllMade));
  }
  for (const auto& rank : world->ranks_) DS_RETURN_IF_ERROR(rank->made);
  return world;
}

PretendWorld::~PretendWorld() { End(); }

Engine& PretendWorld::engine() {
  DS_CHECK(ranks_[0]->engine != nullptr);
  return *ranks_[0]->engine;
}

std::vector<absl::Status> PretendWorld::End() {
  if (ranks_[0]->engine != nullptr && !ranks_[0]->engine->draining()) {
    ranks_[0]->engine->BeginDrain(absl::InfinitePast(), /*hand_over=*/true);
  }
  std::vector<absl::Status> statuses;
  for (const auto& rank : ranks_) {
    if (rank->thread.joinable()) rank->thread.join();
    statuses.push_back(rank->ended);
  }
  return statuses;
}

const Executor& PretendWorld::executor(int rank) const {
  return *ranks_[static_cast<size_t>(rank)]->executor;
}

}  // namespace deltaserve
