#include "worker/engine/step_inputs.h"

#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

constexpr size_t kAlignment = 64;

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The most bytes that one step stages: a sum over the arrays of Views.
size_t MostStaged(const SlotLimits& limits) {
  constexpr size_t kPerSlotArrays = 16;
  const size_t slots = static_cast<size_t>(limits.num_slots);
  const size_t logits = static_cast<size_t>(kMaxLogitRows);
  return kPerSlotArrays * Aligned((slots + 1) * sizeof(uint64_t)) +
         Aligned(static_cast<size_t>(limits.max_rows) * sizeof(int32_t)) +
         2 * Aligned(static_cast<size_t>(limits.num_blocks) * sizeof(int32_t)) +
         4 * Aligned((slots + logits) * sizeof(int32_t));
}

size_t MostRowBytes(const SlotLimits& limits) {
  const size_t rows = static_cast<size_t>(limits.max_rows) * sizeof(int32_t);
  const size_t sequences = static_cast<size_t>(limits.num_slots + 1) * sizeof(int32_t);
  return 3 * Aligned(rows) + 3 * Aligned(sequences);
}

}  // namespace

StepInputs::StepInputs(Device& device, const SlotLimits& limits)
    : device_(device), limits_(limits) {}

absl::StatusOr<std::unique_ptr<StepInputs>> StepInputs::Create(Device& device,
                                                               const SlotLimits& limits) {
  std::unique_ptr<StepInputs> inputs(new StepInputs(device, limits));
  const size_t staged = MostStaged(limits);
  const int64_t entries = limits.num_slots * limits.max_blocks_per_slot;
  if (entries > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--slots is ", limits.num_slots, ": block tables of ", entries, " entries; use at most ",
        std::numeric_limits<int32_t>::max() / limits.max_blocks_per_slot,
        ", or a smaller --max-context"));
  }
  const size_t tables = static_cast<size_t>(entries) * sizeof(int32_t);
  for (size_t parity = 0; parity < 2; ++parity) {
    DS_ASSIGN_OR_RETURN(inputs->host_[parity], device.Allocate(staged, MemoryKind::kHost));
  }
  DS_ASSIGN_OR_RETURN(inputs->on_device_, device.Allocate(staged, MemoryKind::kDevice));
  DS_ASSIGN_OR_RETURN(inputs->rows_, device.Allocate(MostRowBytes(limits), MemoryKind::kDevice));
  DS_ASSIGN_OR_RETURN(inputs->last_tokens_,
                      device.Allocate(static_cast<size_t>(limits.num_slots) * sizeof(int32_t),
                                      MemoryKind::kDevice));
  DS_ASSIGN_OR_RETURN(inputs->tables_, device.Allocate(tables, MemoryKind::kDevice));
  inputs->block_table_ =
      inputs->tables_.View(DType::kI32, {limits.num_slots, limits.max_blocks_per_slot});
  device.Zero(inputs->block_table_);
  device.Zero(inputs->last_tokens_.View(DType::kI32, {limits.num_slots}));
  return inputs;
}

template <typename T>
TensorView StepInputs::Stage(std::span<const T> values) {
  DS_CHECK_LE(staged_ + Aligned(values.size_bytes()), host_[parity_].bytes());
  if (!values.empty()) {
    std::memcpy(static_cast<char*>(host_[parity_].data()) + staged_, values.data(),
                values.size_bytes());
  }
  const TensorView view(static_cast<char*>(on_device_.data()) + staged_, DTypeOf<T>::value,
                        {static_cast<int64_t>(values.size())});
  staged_ += Aligned(values.size_bytes());
  return view;
}

void StepInputs::StageSlots(const StepPlan& plan, const SlotTable& slots, Views* views) {
  std::vector<int32_t> length, state;
  for (int64_t i = 0; i < limits_.num_slots; ++i) {
    length.push_back(slots.slot(i).length);
    state.push_back(slots.slot(i).state);
  }
  std::vector<int32_t> sequence_slot, chunk_start, chunk_begin = {0}, chunk_ids;
  for (const DecodeRow& decode : plan.decodes) sequence_slot.push_back(decode.slot);
  for (const PrefillChunk& chunk : plan.chunks) {
    sequence_slot.push_back(chunk.slot);
    chunk_start.push_back(chunk.start);
    chunk_ids.insert(chunk_ids.end(), chunk.ids.begin(), chunk.ids.end());
    chunk_begin.push_back(static_cast<int32_t>(chunk_ids.size()));
  }
  BuildRowsArgs& build = views->build;
  build.num_decode = static_cast<int64_t>(plan.decodes.size());
  build.num_chunks = static_cast<int64_t>(plan.chunks.size());
  build.slot_length = Stage<int32_t>(length);
  build.slot_last_token = last_tokens_.View(DType::kI32, {limits_.num_slots});
  build.slot_state = Stage<int32_t>(state);
  build.sequence_slot = Stage<int32_t>(sequence_slot);
  build.chunk_start = Stage<int32_t>(chunk_start);
  build.chunk_begin = Stage<int32_t>(chunk_begin);
  build.chunk_ids = Stage<int32_t>(chunk_ids);
  build.out = &views->batch.rows;
}

void StepInputs::StageBlocks(const StepPlan& plan, const SlotTable& slots, Views* views) {
  // How many of a slot's blocks are new. A slot may grow in the plan that opens it.
  std::vector<size_t> num_new(static_cast<size_t>(limits_.num_slots));
  for (const OpenSlot& open : plan.opens) {
    num_new[static_cast<size_t>(open.slot)] += open.blocks.size();
  }
  for (const GrowSlot& grow : plan.grows) {
    num_new[static_cast<size_t>(grow.slot)] += grow.blocks.size();
  }
  std::vector<int32_t> entries, blocks;
  for (int64_t i = 0; i < limits_.num_slots; ++i) {
    const std::vector<int32_t>& all = slots.slot(i).blocks;
    const size_t first = all.size() - num_new[static_cast<size_t>(i)];
    for (size_t index = first; index < all.size(); ++index) {
      entries.push_back(
          static_cast<int32_t>(i * limits_.max_blocks_per_slot + static_cast<int64_t>(index)));
      blocks.push_back(all[index]);
    }
  }
  views->build.new_entry = Stage<int32_t>(entries);
  views->build.new_block = Stage<int32_t>(blocks);
}

void StepInputs::StageSampling(const ScorePlan& score, const SlotTable& slots, Views* views) {
  std::vector<float> temperature, top_p, min_p;
  std::vector<int32_t> top_k, sampled_scored, sampled_slot, forced, logits_scored, prompt_scored,
      prompt_ids;
  std::vector<uint64_t> seed;
  std::vector<uint32_t> sample_index, token_index;
  for (const int32_t index : score.order) {
    const ScorePlan::Sampled& sampled = score.sampled[static_cast<size_t>(index)];
    const Slot& slot = slots.slot(sampled.slot);
    temperature.push_back(slot.sampling.temperature);
    top_p.push_back(slot.sampling.top_p);
    min_p.push_back(slot.sampling.min_p);
    top_k.push_back(slot.sampling.top_k);
    seed.push_back(slot.sampling.seed);
    sample_index.push_back(slot.sample_index);
    token_index.push_back(slot.num_generated);
    sampled_scored.push_back(sampled.scored);
    sampled_slot.push_back(sampled.slot);
    forced.push_back(slot.forced_id());
  }
  for (const ScorePlan::Logits& logits : score.logits) logits_scored.push_back(logits.scored);
  for (const ScorePlan::PromptToken& token : score.prompt) {
    prompt_scored.push_back(token.scored);
    prompt_ids.push_back(token.id);
  }
  views->sampled = {.temperature = Stage<float>(temperature),
                    .top_k = Stage<int32_t>(top_k),
                    .top_p = Stage<float>(top_p),
                    .min_p = Stage<float>(min_p),
                    .seed = Stage<uint64_t>(seed),
                    .sample_index = Stage<uint32_t>(sample_index),
                    .token_index = Stage<uint32_t>(token_index)};
  views->sampled_scored = Stage<int32_t>(sampled_scored);
  views->sampled_slot = Stage<int32_t>(sampled_slot);
  views->forced = Stage<int32_t>(forced);
  views->logits_scored = Stage<int32_t>(logits_scored);
  views->prompt_scored = Stage<int32_t>(prompt_scored);
  views->prompt_ids = Stage<int32_t>(prompt_ids);
  views->batch.scored_rows = Stage<int32_t>(score.rows);
  views->batch.num_scored = static_cast<int64_t>(score.rows.size());
}

void StepInputs::CarveRows(RowBatch* rows) const {
  size_t used = 0;
  const auto carve = [&](int64_t count) {
    const TensorView view(static_cast<char*>(rows_.data()) + used, DType::kI32, {count});
    used += Aligned(view.bytes());
    DS_CHECK_LE(used, rows_.bytes());
    return view;
  };
  rows->ids = carve(rows->num_rows);
  rows->positions = carve(rows->num_rows);
  rows->row_sequence = carve(rows->num_rows);
  rows->row_begin = carve(rows->num_sequences + 1);
  rows->slot = carve(rows->num_sequences);
  rows->state = carve(rows->num_sequences);
  rows->block_table = block_table_;
}

void StepInputs::Upload(const StepPlan& plan,
                        const ScorePlan& score,
                        const SlotTable& slots,
                        Views* views) {
  staged_ = 0;
  StageSlots(plan, slots, views);
  StageBlocks(plan, slots, views);
  StageSampling(score, slots, views);
  const int64_t staged = static_cast<int64_t>(staged_);
  device_.CopyToDevice(on_device_.View(DType::kU8, {staged}), host_[parity_].data());

  RowBatch& rows = views->batch.rows;
  rows.num_rows = plan.num_rows();
  rows.num_decode = views->build.num_decode;
  rows.num_decode_rows = rows.num_decode;
  rows.num_sequences = rows.num_decode + views->build.num_chunks;
  CarveRows(&rows);
}

}  // namespace deltaserve
