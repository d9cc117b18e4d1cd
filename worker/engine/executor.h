#pragma once

// Executor: runs one plan on this rank. Every rank runs the same plans with the same Executor.

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "kernels/tensor/arena.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/recurrent_state.h"
#include "worker/comm/communicator.h"
#include "worker/comm/watchdog.h"
#include "worker/comm/world.h"
#include "worker/engine/engine.h"
#include "worker/engine/engine_options.h"
#include "worker/engine/sampler.h"
#include "worker/engine/slot_table.h"
#include "worker/engine/step_inputs.h"
#include "worker/engine/step_plan.h"
#include "worker/engine/step_result.h"
#include "worker/engine/warm_up.h"
#include "worker/models/model.h"

namespace deltaserve {

// Engine thread. Owns caches and scratch; device, communicator and model outlive it.
class Executor {
 public:
  // Collective. Allocates caches (every rank the same number of blocks: the least that
  // options.kv_memory gives on any) and, when every rank has its own, the exchange buffer. A
  // failure is the same on all ranks: INVALID_ARGUMENT for options that cannot be or that differ
  // between ranks, RESOURCE_EXHAUSTED for memory, or what AllocateExchange gives. `watchdog`, idle
  // before and after, ends a rank to which the exchange buffer does not come.
  static absl::StatusOr<std::unique_ptr<Executor>> Create(World& world,
                                                          Device& device,
                                                          Communicator& comm,
                                                          Model& model,
                                                          const EngineOptions& options,
                                                          Watchdog& watchdog);

  // Collective, once, before the first plan: steps of the largest shapes, after which no memory is
  // allocated while steps run. Leaves no trace of them. As of Launch(), an error is of this rank
  // and ends the world: others may be within a step that waits for this one. `watchdog`, idle
  // before and after, ends a rank that a step holds for longer than its WarmUpPace.
  absl::Status WarmUp(World& world, Watchdog& watchdog);

  // Whether Launch(plan) would wait for results of plans before it: the plan depends on their ids,
  // by the rules or the thinking budget of a request. `plan` fits the slots.
  bool NeedsIds(const StepPlan& plan) const;

  // Applies the plan's deltas, then starts its rows if it has any. Waits for the results of plans
  // before it only where it NeedsIds. An error ends the world: other ranks may be waiting.
  absl::Status Launch(const StepPlan& plan);
  // The result of the first plan launched that was not collected; waits for it. The result holds
  // ids on every rank, the rest on rank 0 only. Errors as of Launch().
  absl::StatusOr<StepResult> Collect();
  // Plans launched and not collected, at most kMostInFlight.
  int num_in_flight() const { return static_cast<int>(in_flight_.size()); }
  static constexpr int kMostInFlight = 2;

  // Both, where nothing else is in flight.
  absl::StatusOr<StepResult> Run(const StepPlan& plan);

  // Collective: DATA_LOSS, on every rank, unless all slot tables are equal (kExitDivergence).
  absl::Status CheckAgreement();

  const EngineCapacity& capacity() const { return capacity_; }
  const EngineOptions& options() const { return options_; }
  const SlotTable& slots() const { return *slots_; }
  // f32 [scored rows, local rows of the vocabulary]: raw logits of the last step, on the device, in
  // the order of MakeScorePlan(plan).rows; empty where it had no rows. Until the next Launch().
  TensorView last_logits() const { return last_logits_; }
  // The most prompt tokens of a step; what warm-up was run with.
  int64_t token_budget_cap() const { return token_budget_cap_; }
  // Rank 0's time for one 64-token step in warm-up; zero where the budget is fixed.
  absl::Duration probe_time() const { return probe_time_; }
  size_t scratch_bytes() const { return arena_.high_water_bytes(); }

 private:
  Executor(Device& device, Communicator& comm, Model& model, const EngineOptions& options);

  // The KV blocks that this rank's memory gives; capacity and limits follow from the least of all.
  int64_t AffordableBlocks() const;
  absl::Status Agree(World& world);
  absl::Status Allocate();
  absl::Status AllocateExchange(Watchdog& watchdog);
  // Measures probe_time_, which sets token_budget_cap_.
  absl::Status Probe(World& world, WarmUpPace* pace, Watchdog& watchdog);
  // Runs a plan of warm-up: how long it took.
  absl::StatusOr<absl::Duration> RunWarm(const StepPlan& plan,
                                         WarmUpPace* pace,
                                         Watchdog& watchdog);
  // Makes caches and slot table as they were before warm-up.
  absl::Status ForgetWarmUp(int64_t blocks);

  // A plan that was launched.
  struct InFlight {
    ScorePlan score = {};
    Sampler::Started started = {};
    StepResult result = {};
    uint64_t point = 0;       // of the device's queue, after it
    bool has_result = false;  // it has been taken
  };

  absl::Status LaunchRows(const StepPlan& plan, InFlight* step);
  absl::Status TakeResult(InFlight& step);

  Device& device_;
  Communicator& comm_;
  Model& model_;
  EngineOptions options_;
  EngineCapacity capacity_;
  SlotLimits limits_;
  Arena arena_;
  Buffer exchange_;  // reduction [the most rows of a step, hidden]
  Buffer logits_;    // f32 [rows scored at most, local rows of the vocabulary]
  TensorView last_logits_;
  KvCache kv_;
  RecurrentState state_;
  std::unique_ptr<SlotTable> slots_;
  std::unique_ptr<StepInputs> inputs_;
  std::unique_ptr<Sampler> sampler_;
  std::deque<InFlight> in_flight_;
  int64_t token_budget_cap_ = 0;
  absl::Duration probe_time_;
};

}  // namespace deltaserve
