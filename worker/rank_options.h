#pragma once

// RankOptions: what the flags of a rank say, for the worker and for the offline generator alike.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/flags.h"
#include "kernels/cuda/cuda_options.h"
#include "kernels/quantization.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/comm/world_communicator.h"

namespace deltaserve {

// A value; every rank of a world is given the same flags.
struct RankOptions {
  std::string model;                  // folder
  std::string device = "cpu";         // cpu | cuda
  std::string communicator = "auto";  // auto | mpi | nccl
  int ranks_per_gpu = 1;
  cuda::BackendFlags backends;      // of cuda
  std::string load = "checkpoint";  // checkpoint | random:SEED
  std::string moe = "tp";
  std::string linear_attention = "sharded";
  std::string quantize = "none";         // none | int8
  int64_t kv_memory = int64_t{1} << 30;  // bytes a rank
  int64_t slots = 16;
  int64_t token_budget = 0;  // prefill tokens a step; 0 = from measured speed
  int64_t max_queue = 256;
  int64_t max_queue_tokens = 1 << 18;
  int64_t max_context = 0;         // 0 = what model and KV memory allow
  std::string run_ahead = "auto";  // auto | 0 | 1
  std::string cpu_isa = "auto";
  int threads = 0;  // 0 = cores / ranks on this host
  int readers = 4;
  std::string log_level = "info";
  std::string control_network;     // see ControlLinkOptions::address
  std::string record_plans;        // file of rank 0; empty: none
  bool record_ops = false;         // with checksums of ops
  bool checksum_ops = false;       // the same without a recording, for a replay
  std::string nccl_environment;    // NcclEnvironment() of this process
  std::string nccl_socket_ifname;  // its NCCL_SOCKET_IFNAME; empty: none

  // INVALID_ARGUMENT names the flag, its value and what would do.
  absl::StatusOr<ParallelOptions> Parallel(int ranks) const;
  // Refuses flags that mean nothing for --device.
  absl::Status CheckDevice() const;
  // What --communicator says; auto is NCCL for GPUs, shared memory or MPI for CPUs.
  CommunicatorKind Communicator() const;
  // What --quantize says; refuses what --device has not.
  absl::StatusOr<Quantization> WeightQuantization() const;
  // Steps ahead as --run-ahead says; auto: 1 where the device works while the host does.
  int RunAhead() const;
  // The seed of --load=random:SEED; nullopt for --load=checkpoint.
  absl::StatusOr<std::optional<uint64_t>> RandomSeed() const;
};

// Adds those flags that say where a rank runs and not what it computes; a replay has no others.
// Reads what the process's variables say of the same.
void AddPlaceFlags(CommandLine& line, RankOptions* options);

// Adds all flags; their help says what each is for.
void AddRankFlags(CommandLine& line, RankOptions* options);

}  // namespace deltaserve
