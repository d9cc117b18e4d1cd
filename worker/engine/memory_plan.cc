#include "worker/engine/memory_plan.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/ops.h"
#include "kernels/tensor/dtype.h"
#include "worker/cache/block_pool.h"
#include "worker/checkpoint/weight_table.h"
#include "worker/engine/request.h"
#include "worker/models/kept_shapes.h"

namespace deltaserve {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

absl::Status Refuse(const std::string& flag,
                    int64_t value,
                    const std::string& problem,
                    const std::string& remedy) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, ": ", problem, "; ", remedy));
}

// As they are packed from what releases store; a tied head is packed from the embedding, or is it.
int64_t WeightBytes(const ModelConfig& config,
                    const ShardPlan& plan,
                    const MemoryNeeds& needs,
                    Quantization quantization) {
  int64_t bytes = 0;
  for (const WeightSpec& spec : WeightTable(config, plan.options())) {
    if (spec.optional && config.tie_word_embeddings && !needs.packs_tables) continue;
    bytes += LocalBytes(plan, spec, quantization);
  }
  return bytes;
}

// What flags bring into a rank.
struct Load {
  int64_t slots = 0;
  int64_t kv_blocks = 0;
  int64_t prompt_rows = 0;
  int64_t queued = 0;
  int64_t queued_tokens = 0;
};

int64_t Bytes(const MemoryPlan& plan, const Load& load) {
  return plan.weights + plan.scored_rows + load.slots * plan.per_slot +
         load.kv_blocks * plan.per_block + load.prompt_rows * plan.per_row +
         ArenaBytes(plan, load.slots, load.prompt_rows) + load.queued * plan.per_queued +
         load.queued_tokens * plan.per_queued_token;
}

// One part of a rank's memory, and the flag that makes it so large.
struct Part {
  const char* flag;
  const char* what;
  int64_t value;  // of the flag
  int64_t Load::*amount;
  int64_t unit;  // of the flag, for one more of `amount`
  int64_t step;  // of `amount`, as the flag counts
};

// With `amount` of a part in place of what the flag says.
Load With(Load load, const Part& part, int64_t amount) {
  load.*part.amount = amount;
  return load;
}

// The most of it, in whole steps and at least one, that `memory` holds beside all else.
int64_t Largest(const MemoryPlan& plan, const Load& load, const Part& part, int64_t memory) {
  int64_t fits = 1;
  int64_t too_many = load.*part.amount / part.step + 1;
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    const bool holds = Bytes(plan, With(load, part, middle * part.step)) <= memory;
    (holds ? fits : too_many) = middle;
  }
  return fits * part.step;
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(const ModelConfig& config,
                                      const ShardPlan& plan,
                                      Device& device,
                                      const EngineOptions& options) {
  const LocalSizes& local = plan.local();
  const Numerics& numerics = device.numerics();
  MemoryPlan memory;
  memory.max_context = config.max_position_embeddings;
  if (options.max_context > memory.max_context) {
    return Refuse("--max-context", options.max_context,
                  absl::StrCat("max_position_embeddings of the model is ", memory.max_context),
                  absl::StrCat("use at most ", memory.max_context, ", or 0 for that"));
  }
  if (options.max_context > 0) memory.max_context = options.max_context;
  memory.per_block = static_cast<int64_t>(KvShapeOf(config, local, numerics, 1).bytes_per_block());
  const int64_t useful = options.slots * NumBlocks(memory.max_context);
  memory.kv_blocks =
      memory.per_block == 0 ? useful : std::min(useful, options.kv_memory / memory.per_block);
  if (memory.kv_blocks < 1) {
    return Refuse("--kv-memory", options.kv_memory,
                  absl::StrCat("one block of ", kBlockTokens, " tokens takes ", memory.per_block,
                               " bytes a rank"),
                  "use at least that");
  }
  if (options.max_context > 0 && memory.kv_blocks < NumBlocks(options.max_context)) {
    return Refuse("--max-context", options.max_context,
                  absl::StrCat("--kv-memory is ", options.kv_memory, " and holds ",
                               memory.kv_blocks * kBlockTokens, " tokens"),
                  absl::StrCat("use at most ", memory.kv_blocks * kBlockTokens, ", or --kv-memory ",
                               NumBlocks(options.max_context) * memory.per_block));
  }
  const MemoryNeeds needs = NeedsOf(config, plan, device, options.slots);
  memory.weights = WeightBytes(config, plan, needs, options.quantization);
  memory.arena = PlanArena(config, plan, numerics, needs, options.slots);
  memory.per_row = config.hidden_size * static_cast<int64_t>(DTypeSize(numerics.reduction));
  memory.prompt_rows = options.max_rows() - options.slots;
  memory.scored_rows = kMaxLogitRows * local.vocab_rows * kFloatBytes;
  memory.per_slot = static_cast<int64_t>(StateShapeOf(config, local, 1).bytes_per_state()) +
                    memory.per_row + local.vocab_rows * kFloatBytes +
                    NumBlocks(memory.max_context) * static_cast<int64_t>(sizeof(int32_t));
  if (plan.rank() == 0) {
    memory.per_queued = sizeof(Request);
    memory.per_queued_token = 2 * sizeof(int32_t);  // as it came and as it is prefilled
  }
  return memory;
}

int64_t ArenaBytes(const MemoryPlan& plan, int64_t slots, int64_t rows) {
  int64_t most = 0;
  for (const ArenaUse& use : plan.arena) {
    most = std::max(most, use.fixed + slots * use.per_slot + rows * use.per_row);
  }
  return most;
}

MemoryPlan WithoutHostParts(MemoryPlan plan) {
  plan.per_queued = 0;
  plan.per_queued_token = 0;
  return plan;
}

absl::Status CheckMemory(const MemoryPlan& plan, const EngineOptions& options, int64_t memory) {
  if (plan.weights >= memory) {
    return absl::InvalidArgumentError(absl::StrCat("--model: the weights of a rank take ",
                                                   plan.weights, " bytes and it has ", memory,
                                                   "; use more ranks on more machines"));
  }
  const Load load = {.slots = options.slots,
                     .kv_blocks = plan.kv_blocks,
                     .prompt_rows = plan.prompt_rows,
                     .queued = options.max_queue,
                     .queued_tokens = options.max_queue_tokens};
  const int64_t all = Bytes(plan, load);
  if (all <= memory) return absl::OkStatus();
  const std::array<Part, 5> parts = {{
      {"--slots", "states, logits and rows of a step", options.slots, &Load::slots, 1, 1},
      {"--kv-memory", "keys and values", options.kv_memory, &Load::kv_blocks, plan.per_block, 1},
      {"--token-budget", "rows of a step", options.token_budget, &Load::prompt_rows, 1,
       kBlockTokens},
      {"--max-queue", "requests that wait", options.max_queue, &Load::queued, 1, 1},
      {"--max-queue-tokens", "prompts that wait", options.max_queue_tokens, &Load::queued_tokens, 1,
       1},
  }};
  const auto rest = [&](const Part& part) { return Bytes(plan, With(load, part, 0)); };
  const Part& most = *std::min_element(
      parts.begin(), parts.end(), [&](const Part& a, const Part& b) { return rest(a) < rest(b); });
  return Refuse(most.flag, most.value,
                absl::StrCat(most.what, " take ", all - rest(most), " bytes a rank beside ",
                             rest(most), " of weights and others, and a rank has ", memory),
                absl::StrCat("use at most ", Largest(plan, load, most, memory) * most.unit));
}

}  // namespace deltaserve
