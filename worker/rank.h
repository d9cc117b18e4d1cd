#pragma once

// Rank: everything that one process of a world holds, brought up in step with the other ranks.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/text_files.h"
#include "worker/comm/control_link.h"
#include "worker/comm/last_words.h"
#include "worker/comm/mpi_world.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/watchdog.h"
#include "worker/engine/engine_options.h"
#include "worker/engine/executor.h"
#include "worker/models/model.h"
#include "worker/rank_options.h"
#include "worker/replay/op_checksums.h"
#include "worker/replay/step_recorder.h"

namespace deltaserve {

// Main thread. Members are destroyed in reverse order; world and last words outlive it.
class Rank {
 public:
  // Collective. Reads config and text, plans the partition, connects, loads, allocates, warms up.
  // On failure every rank gets the same status, that of World::AgreeOnStatus, and `*speaker` the
  // number of the rank that it is of: it alone should print it. A failure of warm-up, in whose
  // steps ranks wait for each other, ends the process by LastWords. `engine`: what flags do not say
  // (prompt_logits of the offline tool).
  static absl::StatusOr<std::unique_ptr<Rank>> Create(const RankOptions& options,
                                                      EngineOptions engine,
                                                      MpiWorld& world,
                                                      LastWords& last_words,
                                                      int* speaker);

  // On a failed start peers must not take this rank's end for a death: the link says goodbye.
  ~Rank();

  // Rank 0: hands the plans of `engine` out until it is drained, recorded where options say so.
  // Others: follow. Returns the exit code of a drain (0); any failure ends the process by LastWords
  // with its exit code.
  int RunEngine(class Engine& engine);
  int RunFollower();
  // The end of another loop of rank 0 that returned `status`: the same.
  int End(const absl::Status& status);

  const ModelConfig& config() const { return config_; }
  const ShardPlan& plan() const { return *plan_; }
  const TextFiles& text() const { return text_; }
  // The loader's, and "+int8" where weights are quantised: answers go on only between equal ones.
  const std::string& weights_fingerprint() const { return weights_fingerprint_; }
  // Equal where ranks can be expected to compute the same bits.
  std::string numerics_fingerprint() const;
  Device& device() { return *device_; }
  // That compute on the host; 1 where another device does.
  int num_threads() const { return num_threads_; }
  Communicator& comm() { return *comm_; }
  Model& model() { return *model_; }
  Executor& executor() { return *executor_; }
  PlanChannel& channel() { return *channel_; }
  ControlLink& link() { return *link_; }
  Watchdog& watchdog() { return *watchdog_; }
  // Of this rank's device; null unless options ask for checksums of ops.
  OpChecksums* op_checksums() { return op_checksums_.get(); }

 private:
  Rank(const RankOptions& options, MpiWorld& world, LastWords& last_words)
      : options_(options), world_(world), last_words_(last_words) {}

  // The stages of Create(); after each the ranks agree on how it went.
  absl::Status ReadConfig();
  absl::Status CheckRecording();
  absl::Status OpenDevice();
  absl::Status OpenGpu();
  absl::Status OpenCommunicator();
  // That the flags can hold, before a weight is read.
  absl::Status CheckMemory(const EngineOptions& engine);
  // Wraps the device of rank 0, whose ops alone are recorded and compared, where options say so.
  void ChecksumOps();
  absl::Status Load();
  absl::Status StartRecording();

  const RankOptions options_;
  MpiWorld& world_;
  LastWords& last_words_;
  ModelConfig config_;
  std::optional<ShardPlan> plan_;  // set by ReadConfig
  TextFiles text_;
  Quantization quantization_ = Quantization::kNone;
  std::string weights_fingerprint_;
  std::unique_ptr<OpChecksums> op_checksums_;
  std::unique_ptr<Device> device_;
  void* stream_ = nullptr;  // of a GPU's queue, for NCCL
  int num_threads_ = 1;
  std::unique_ptr<Communicator> comm_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<StepRecorder> recorder_;  // rank 0, or null
  std::unique_ptr<PlanChannel> channel_;
  std::unique_ptr<ControlLink> link_;
  std::unique_ptr<Watchdog> watchdog_;
};

// The exit code of a rank whose Create() returned `status`: 75 where trying again may help, 70 for
// what only we can cause, else 64.
int StartExitCode(const absl::Status& status);

}  // namespace deltaserve
