#include "worker/engine/executor.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "worker/cache/block_pool.h"

namespace deltaserve {
namespace {

// The budget that is warmed up is this many times what the probe says fits into a step.
constexpr double kBudgetHeadroom = 4;
// A probe of a CPU beyond this is not run again for a better measure.
constexpr absl::Duration kSlowProbe = absl::Seconds(5);
// As long as a phase of NCCL's start.
constexpr absl::Duration kExchangeAllowed = absl::Seconds(120);
// A CPU of this pace, 100 times slower than two cores, would be of no use; GPUs take any step of
// warm-up in less than any is allowed.
constexpr double kLeastBytesPerSecond = 5e8;

int64_t BudgetCap(const EngineOptions& options, absl::Duration probe) {
  const double per_block = std::max(absl::ToDoubleSeconds(probe), 1e-9);
  const double blocks = kBudgetHeadroom * absl::ToDoubleSeconds(options.step_target) / per_block;
  const int64_t most = options.max_token_budget / kBlockTokens;
  return static_cast<int64_t>(std::clamp(blocks, 1.0, static_cast<double>(most))) * kBlockTokens;
}

// What a row may take before a step was measured: it reads the weights once at most.
absl::Duration SlowestRow(const Device& device, const Model& model) {
  if (!device.HostAddressable()) return absl::ZeroDuration();
  return absl::Seconds(static_cast<double>(model.weight_bytes()) / kLeastBytesPerSecond);
}

}  // namespace

Executor::Executor(Device& device, Communicator& comm, Model& model, const EngineOptions& options)
    : device_(device),
      comm_(comm),
      model_(model),
      options_(options),
      arena_([&device](size_t bytes) {
        absl::StatusOr<Buffer> memory = device.Allocate(bytes, MemoryKind::kDevice);
        DS_CHECK_OK(memory.status())
            << "scratch of a step; use a smaller --slots or --token-budget";
        return *std::move(memory);
      }) {}

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(World& world,
                                                           Device& device,
                                                           Communicator& comm,
                                                           Model& model,
                                                           const EngineOptions& options,
                                                           Watchdog& watchdog) {
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(options.Validate()));
  std::unique_ptr<Executor> executor(new Executor(device, comm, model, options));
  DS_RETURN_IF_ERROR(executor->Agree(world));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(executor->Allocate()));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(executor->AllocateExchange(watchdog)));
  return executor;
}

int64_t Executor::AffordableBlocks() const {
  const int64_t useful = options_.slots * NumBlocks(capacity_.max_context);
  const size_t bytes = model_.kv_shape(1).bytes_per_block();
  const int64_t affordable = bytes == 0 ? useful : options_.kv_memory / static_cast<int64_t>(bytes);
  return std::min({affordable, useful, int64_t{std::numeric_limits<int32_t>::max()}});
}

absl::Status Executor::Agree(World& world) {
  const ModelConfig& config = model_.config();
  capacity_.slots = options_.slots;
  capacity_.max_queue = options_.max_queue;
  capacity_.max_queue_tokens = options_.max_queue_tokens;
  capacity_.vocab_rows = config.vocab_size;
  capacity_.num_tokens = options_.num_tokens > 0 ? std::min(options_.num_tokens, config.vocab_size)
                                                 : config.vocab_size;
  capacity_.max_context = options_.max_context > 0
                              ? std::min(options_.max_context, config.max_position_embeddings)
                              : config.max_position_embeddings;
  const int64_t mine = AffordableBlocks();
  const std::string settings =
      absl::StrCat(options_.slots, " slots, token budget ", options_.token_budget, " up to ",
                   options_.max_token_budget, ", context ", capacity_.max_context, ", ",
                   capacity_.num_tokens, " of ", capacity_.vocab_rows, " tokens, run ahead ",
                   options_.run_ahead, options_.prompt_logits ? ", prompt logits" : "");
  capacity_.kv_blocks = mine;
  const std::vector<std::string> all = world.AllGather(absl::StrCat(mine, "|", settings));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const std::vector<std::string> parts = absl::StrSplit(all[rank], absl::MaxSplits('|', 1));
    int64_t blocks = 0;
    DS_CHECK(parts.size() == 2 && absl::SimpleAtoi(parts[0], &blocks)) << all[rank];
    capacity_.kv_blocks = std::min(capacity_.kv_blocks, blocks);
    const std::string first = all[0].substr(all[0].find('|') + 1);
    if (parts[1] != first) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " was started with ", parts[1],
                                                     ", rank 0 with ", first,
                                                     "; give every rank the same flags and model"));
    }
  }
  if (capacity_.kv_blocks < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-memory is ", options_.kv_memory, " bytes: one block of ", kBlockTokens,
                     " tokens takes ", model_.kv_shape(1).bytes_per_block(),
                     " bytes a rank; use at least that"));
  }
  // No request can be longer than all blocks together.
  capacity_.max_context = std::min(capacity_.max_context, capacity_.kv_blocks * kBlockTokens);
  capacity_.kv_bytes_per_token = model_.kv_shape(1).bytes_per_block() / kBlockTokens;
  capacity_.state_bytes_per_slot = model_.state_shape(1).bytes_per_state();
  limits_ = {.num_slots = capacity_.slots,
             .num_states = capacity_.slots,
             .num_blocks = capacity_.kv_blocks,
             .max_blocks_per_slot = NumBlocks(capacity_.max_context),
             .vocab_rows = capacity_.vocab_rows,
             .max_rows = options_.max_rows(),
             .prompt_logits = options_.prompt_logits};
  return absl::OkStatus();
}

absl::Status Executor::Allocate() {
  DS_ASSIGN_OR_RETURN(kv_, KvCache::Create(device_, model_.kv_shape(capacity_.kv_blocks)));
  DS_ASSIGN_OR_RETURN(state_, RecurrentState::Create(device_, model_.state_shape(capacity_.slots)));
  DS_ASSIGN_OR_RETURN(inputs_, StepInputs::Create(device_, limits_));
  const int64_t scored = capacity_.slots + kMaxLogitRows;
  const LocalSizes& local = model_.plan().local();
  DS_ASSIGN_OR_RETURN(
      logits_, device_.Allocate(static_cast<size_t>(scored * local.vocab_rows) * sizeof(float),
                                MemoryKind::kDevice));
  slots_ = std::make_unique<SlotTable>(limits_);
  DS_ASSIGN_OR_RETURN(sampler_,
                      Sampler::Create(device_, comm_,
                                      {.vocab_rows = capacity_.vocab_rows,
                                       .num_tokens = capacity_.num_tokens,
                                       .local_rows = local.vocab_rows,
                                       .local_begin = local.vocab_begin,
                                       .slots = capacity_.slots,
                                       .scored_rows = kMaxLogitRows,
                                       .logit_rows = options_.prompt_logits ? kMaxLogitRows : 0}));
  return device_.Synchronize();
}

absl::Status Executor::AllocateExchange(Watchdog& watchdog) {
  const int64_t elements = options_.max_rows() * model_.config().hidden_size;
  const size_t bytes = static_cast<size_t>(elements) * DTypeSize(device_.numerics().reduction);
  watchdog.PhaseStarted("making the exchange buffer", kExchangeAllowed);
  absl::StatusOr<Buffer> exchange = comm_.AllocateExchange(bytes);
  watchdog.Idle();
  DS_ASSIGN_OR_RETURN(exchange_, std::move(exchange));
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> Executor::RunWarm(const StepPlan& plan,
                                                 WarmUpPace* pace,
                                                 Watchdog& watchdog) {
  watchdog.PhaseStarted("a step of warm-up", pace->Allowed(plan.num_rows()));
  const absl::Time begin = absl::Now();
  DS_RETURN_IF_ERROR(Run(plan).status());
  const absl::Duration took = absl::Now() - begin;
  watchdog.Idle();
  pace->Record(plan.num_rows(), took);
  return took;
}

absl::Status Executor::Probe(World& world, WarmUpPace* pace, Watchdog& watchdog) {
  // The first run reads the weights for the first time, loads kernels and allocates its scratch one
  // by one; the second, in memory of that size, is the measure.
  for (int run = 0; run < 2; ++run) {
    StepPlan plan = ProbePlan();
    if (run > 0) {
      plan.closes.push_back(0);
      arena_.Freeze();
    }
    DS_ASSIGN_OR_RETURN(const absl::Duration mine, RunWarm(plan, pace, watchdog));
    const std::string took = world.BroadcastFromZero(absl::StrCat(absl::ToInt64Nanoseconds(mine)));
    int64_t nanoseconds = 0;
    DS_CHECK(absl::SimpleAtoi(took, &nanoseconds)) << took;
    probe_time_ = absl::Nanoseconds(nanoseconds);
    if (probe_time_ > kSlowProbe && device_.HostAddressable()) break;
  }
  if (arena_.frozen()) arena_.Thaw();
  DS_RETURN_IF_ERROR(Run(StepPlan{.kind = PlanKind::kIdle, .closes = {0}}).status());
  token_budget_cap_ = BudgetCap(options_, probe_time_);
  return absl::OkStatus();
}

absl::Status Executor::WarmUp(World& world, Watchdog& watchdog) {
  const absl::Time start = absl::Now();
  WarmUpPace pace(SlowestRow(device_, model_));
  token_budget_cap_ = options_.token_budget;
  if (options_.token_budget == 0) DS_RETURN_IF_ERROR(Probe(world, &pace, watchdog));
  for (const StepPlan& plan : WarmUpPlans(limits_, token_budget_cap_)) {
    DS_RETURN_IF_ERROR(RunWarm(plan, &pace, watchdog).status());
  }
  arena_.Freeze();
  DS_RETURN_IF_ERROR(
      ForgetWarmUp(std::min(capacity_.kv_blocks, capacity_.slots + NumBlocks(token_budget_cap_))));
  if (comm_.rank() == 0) {
    LogInfo("warm after {}: {} slots, {} KV blocks, token budget up to {}, {} bytes of scratch",
            absl::FormatDuration(absl::Now() - start), capacity_.slots, capacity_.kv_blocks,
            token_budget_cap_, arena_.high_water_bytes());
  }
  return absl::OkStatus();
}

absl::Status Executor::ForgetWarmUp(int64_t blocks) {
  DS_CHECK_EQ(slots_->num_open(), 0);
  slots_ = std::make_unique<SlotTable>(limits_);
  for (int64_t state = 0; state < capacity_.slots; ++state) state_.Zero(device_, state);
  for (int64_t layer = 0; layer < kv_.shape().num_layers; ++layer) {
    device_.Zero(kv_.keys(layer).Rows(0, blocks));
    device_.Zero(kv_.values(layer).Rows(0, blocks));
  }
  return device_.Synchronize();
}

absl::StatusOr<StepResult> Executor::Run(const StepPlan& plan) {
  DS_CHECK(in_flight_.empty()) << in_flight_.size() << " plans are in flight";
  DS_RETURN_IF_ERROR(Launch(plan));
  return Collect();
}

bool Executor::NeedsIds(const StepPlan& plan) const {
  return std::any_of(plan.decodes.begin(), plan.decodes.end(), [this](const DecodeRow& decode) {
    return slots_->slot(decode.slot).needs_ids();
  });
}

absl::Status Executor::Launch(const StepPlan& plan) {
  DS_CHECK_LT(num_in_flight(), kMostInFlight);
  DS_RETURN_IF_ERROR(slots_->Apply(plan));
  if (NeedsIds(plan)) {
    for (InFlight& step : in_flight_) DS_RETURN_IF_ERROR(TakeResult(step));
  }
  for (const StateOp& op : plan.state_ops) state_.Zero(device_, op.state);
  inputs_->NextStep();
  last_logits_ = TensorView();
  InFlight step;
  if (plan.num_rows() > 0 || plan.num_new_blocks() > 0) {
    DS_RETURN_IF_ERROR(LaunchRows(plan, &step));
  }
  slots_->Advance(plan);
  step.point = device_.Mark();
  in_flight_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<StepResult> Executor::Collect() {
  DS_CHECK(!in_flight_.empty());
  DS_RETURN_IF_ERROR(TakeResult(in_flight_.front()));
  StepResult result = std::move(in_flight_.front().result);
  in_flight_.pop_front();
  return result;
}

absl::Status Executor::TakeResult(InFlight& step) {
  if (step.has_result) return absl::OkStatus();
  DS_RETURN_IF_ERROR(device_.Await(step.point));
  DS_ASSIGN_OR_RETURN(step.result, sampler_->Finish(step.score, step.started));
  slots_->TakeIds(step.result.ids);
  step.has_result = true;
  return absl::OkStatus();
}

absl::Status Executor::LaunchRows(const StepPlan& plan, InFlight* step) {
  const ArenaScope scope(arena_);
  step->score = MakeScorePlan(plan);
  const ScorePlan& score = step->score;
  StepInputs::Views views;
  inputs_->Upload(plan, score, *slots_, &views);
  device_.ops().BuildRows(views.build);
  if (plan.num_rows() == 0) return absl::OkStatus();  // blocks alone
  const TensorView logits =
      logits_.View(DType::kF32, {views.batch.num_scored, model_.plan().local().vocab_rows});
  ExecContext context{
      .device = device_,
      .comm = comm_,
      .kv = kv_,
      .state = state_,
      .arena = arena_,
      .exchange = exchange_.View(device_.numerics().reduction,
                                 {options_.max_rows(), model_.config().hidden_size})};
  model_.Forward(views.batch, context, logits);
  last_logits_ = logits;
  std::vector<int32_t> forced;
  std::vector<const LogitHistory*> histories;
  std::vector<std::span<const int32_t>> logprob_ids;
  for (const ScorePlan::Sampled& sampled : score.sampled) {
    const Slot& slot = slots_->slot(sampled.slot);
    forced.push_back(slot.forced_id());
    histories.push_back(slot.history.has_value() ? &*slot.history : nullptr);
    logprob_ids.emplace_back(slot.logprob_ids);
  }
  DS_ASSIGN_OR_RETURN(step->started,
                      sampler_->Start({.score = &score,
                                       .logits = logits,
                                       .params = views.sampled,
                                       .sampled_scored = views.sampled_scored,
                                       .sampled_slot = views.sampled_slot,
                                       .forced_ids = views.forced,
                                       .slot_last_token = views.build.slot_last_token,
                                       .logits_scored = views.logits_scored,
                                       .prompt_scored = views.prompt_scored,
                                       .prompt_ids = views.prompt_ids,
                                       .forced = std::move(forced),
                                       .histories = std::move(histories),
                                       .logprob_ids = std::move(logprob_ids)},
                                      arena_));
  return absl::OkStatus();
}

absl::Status Executor::CheckAgreement() {
  if (comm_.size() == 1) return absl::OkStatus();
  const ArenaScope scope(arena_);
  const TensorView mine = arena_.Allocate(DType::kU32, {1});
  const TensorView all = arena_.Allocate(DType::kU32, {comm_.size()});
  const uint32_t digest = slots_->Digest();
  std::vector<uint32_t> digests(static_cast<size_t>(comm_.size()));
  device_.CopyToDevice(mine, &digest);
  comm_.AllGather(mine, all);
  device_.CopyToHost(digests.data(), all);
  DS_RETURN_IF_ERROR(device_.Synchronize());
  for (size_t rank = 1; rank < digests.size(); ++rank) {
    if (digests[rank] == digests[0]) continue;
    return absl::DataLossError(absl::StrCat("rank ", rank,
                                            " no longer agrees with rank 0 on what was sampled; "
                                            "start every rank from one build on equal machines"));
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
