#pragma once

// PretendWorld: a whole world as threads of one process: one rank a thread, each with its own CPU
// device, communicator, model, executor and loop; rank 0 has the engine.

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/thread_world.h"
#include "worker/comm/world.h"
#include "worker/engine/engine_loop.h"
#include "worker/engine/engine_options.h"
#include "worker/models/model.h"

namespace deltaserve {

// Called once on each rank's thread, on all at once; what it makes lives as long as the rank.
using PretendModelFactory =
    std::function<absl::StatusOr<std::unique_ptr<Model>>(World& world, Device& device)>;

struct PretendOptions {
  int ranks = 1;
  int threads_per_rank = 1;
  Quantization quantization = Quantization::kNone;
  EngineOptions engine = {};
  EngineObserver* observer = nullptr;
  // The device of a rank; empty: a CPU.
  std::function<std::unique_ptr<Device>(int rank)> make_device = {};
  // Of rank 0, each may be empty: what its device becomes; called before its loop, the observers
  // it adds outlive the world; the loop that is run in place of the engine's.
  std::function<std::unique_ptr<Device>(std::unique_ptr<Device>)> wrap_device = {};
  std::function<void(Engine&, Executor&, Device&)> prepare = {};
  std::function<absl::Status(StepRunner&, Executor&, Device&)> loop = {};
};

// Test thread. Start() returns when every rank is warm; the destructor ends the world.
class PretendWorld {
 public:
  // The status of the lowest rank that failed to start, if any did.
  static absl::StatusOr<std::unique_ptr<PretendWorld>> Start(const PretendOptions& options,
                                                             const PretendModelFactory& factory);
  ~PretendWorld();
  PretendWorld(const PretendWorld&) = delete;
  PretendWorld& operator=(const PretendWorld&) = delete;

  // Any thread.
  Engine& engine();

  // Waits until rank 0's loop and, by a drain begun here if none was, every other has returned;
  // what each returned, in rank order. Requests still open end with DRAINING.
  std::vector<absl::Status> End();

  // After End(): a rank's executor as its last step left it.
  const Executor& executor(int rank) const;

  // Lets every rank out of every collective, as if the network had gone.
  void Break() { world_.Stop(); }

 private:
  struct Rank;

  explicit PretendWorld(const PretendOptions& options);
  void RunRank(int rank, const PretendModelFactory& factory);
  absl::Status Make(Rank& rank, const PretendModelFactory& factory);
  // Notes that a rank has been made or could not be.
  void Report(Rank& rank, const absl::Status& status);
  bool AllMade() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return num_made_ == options_.ranks; }

  const PretendOptions options_;
  ThreadWorld world_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  absl::Mutex mutex_;
  int num_made_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace deltaserve
