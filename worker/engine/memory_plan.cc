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

// As they are packed from what releases store; a tied head is packed from the embedding.
int64_t WeightBytes(const ModelConfig& config, const ShardPlan& plan, Quantization quantization) {
  int64_t bytes = 0;
  for (const WeightSpec& spec : WeightTable(config, plan.options())) {
    bytes += LocalBytes(plan, spec, quantization);
  }
  return bytes;
}

// One part of a rank's memory, and the flag that makes it so large.
struct Part {
  const char* flag;
  const char* what;
  int64_t value;     // of the flag
  int64_t bytes;     // of the part
  int64_t unit;      // bytes that one more of `step` takes
  int64_t step;      // values of the flag that `unit` is for
  int64_t smallest;  // value of the flag
};

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(const ModelConfig& config,
                                      const ShardPlan& plan,
                                      const Numerics& numerics,
                                      const EngineOptions& options) {
  const LocalSizes& local = plan.local();
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
  memory.weights = WeightBytes(config, plan, options.quantization);
  // Exchange, residual and normed rows, and a dense layer's gate, up and their product.
  const auto act = static_cast<int64_t>(DTypeSize(numerics.activation));
  const auto reduction = static_cast<int64_t>(DTypeSize(numerics.reduction));
  memory.per_row =
      config.hidden_size * (reduction + kFloatBytes + act) + 3 * local.intermediate_size * act;
  memory.prompt_rows = options.max_rows() - options.slots;
  memory.per_slot = static_cast<int64_t>(StateShapeOf(config, local, 1).bytes_per_state()) +
                    memory.per_row + local.vocab_rows * kFloatBytes +
                    NumBlocks(memory.max_context) * static_cast<int64_t>(sizeof(int32_t));
  if (plan.rank() == 0) {
    memory.per_queued = sizeof(Request);
    memory.per_queued_token = 2 * sizeof(int32_t);  // as it came and as it is prefilled
  }
  return memory;
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
  const std::array<Part, 5> parts = {{
      {.flag = "--slots",
       .what = "states and logits",
       .value = options.slots,
       .bytes = options.slots * plan.per_slot,
       .unit = plan.per_slot,
       .step = 1,
       .smallest = 1},
      {.flag = "--kv-memory",
       .what = "keys and values",
       .value = options.kv_memory,
       .bytes = plan.kv_blocks * plan.per_block,
       .unit = plan.per_block,
       .step = plan.per_block,
       .smallest = plan.per_block},
      {.flag = "--token-budget",
       .what = "rows of a step",
       .value = options.token_budget,
       .bytes = plan.prompt_rows * plan.per_row,
       .unit = plan.per_row * kBlockTokens,
       .step = kBlockTokens,
       .smallest = kBlockTokens},
      {.flag = "--max-queue",
       .what = "requests that wait",
       .value = options.max_queue,
       .bytes = options.max_queue * plan.per_queued,
       .unit = plan.per_queued,
       .step = 1,
       .smallest = 1},
      {.flag = "--max-queue-tokens",
       .what = "prompts that wait",
       .value = options.max_queue_tokens,
       .bytes = options.max_queue_tokens * plan.per_queued_token,
       .unit = plan.per_queued_token,
       .step = 1,
       .smallest = 1},
  }};
  int64_t all = plan.weights;
  for (const Part& part : parts) all += part.bytes;
  if (all <= memory) return absl::OkStatus();
  const Part& most = *std::max_element(
      parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.bytes < b.bytes; });
  const int64_t others = all - most.bytes;
  const int64_t units = (memory - others) / most.unit;
  const int64_t largest = std::max(units * most.step, most.smallest);
  return Refuse(most.flag, most.value,
                absl::StrCat(most.what, " take ", most.bytes, " bytes a rank beside ", others,
                             " of weights and others, and a rank has ", memory),
                absl::StrCat("use at most ", largest));
}

}  // namespace deltaserve
