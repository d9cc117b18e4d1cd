#include "worker/engine/sampler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

SampleParams Slice(const SampleParams& params, int64_t begin, int64_t count) {
  return {.temperature = params.temperature.Rows(begin, count),
          .top_k = params.top_k.Rows(begin, count),
          .top_p = params.top_p.Rows(begin, count),
          .min_p = params.min_p.Rows(begin, count),
          .seed = params.seed.Rows(begin, count),
          .sample_index = params.sample_index.Rows(begin, count),
          .token_index = params.token_index.Rows(begin, count)};
}

StepMemory::Sizes MemoryOf(const Sampler::Sizes& sizes, int rank) {
  const size_t ids = StepMemory::Room(static_cast<size_t>(sizes.slots) * sizeof(int32_t), 1);
  if (rank != 0) return {.results = ids};
  const auto sampled = TokenScorer::MemoryOf(sizes.slots, Sampler::kGatherRows);
  const auto prompt = TokenScorer::MemoryOf(sizes.scored_rows, Sampler::kGatherRows);
  const size_t logits = static_cast<size_t>(sizes.logit_rows * sizes.vocab_rows) * sizeof(float);
  return {.uploads = sampled.uploads + prompt.uploads +
                     LogitEditor::UploadBytes(sizes.slots, sizes.vocab_rows),
          .results = ids + sampled.results + prompt.results +
                     StepMemory::Room(logits, static_cast<size_t>(sizes.logit_rows))};
}

}  // namespace

Sampler::Sampler(Device& device,
                 Communicator& comm,
                 const Sizes& sizes,
                 std::unique_ptr<StepMemory> memory)
    : device_(device),
      comm_(comm),
      sizes_(sizes),
      memory_(std::move(memory)),
      editor_(device, *memory_, sizes.num_tokens),
      scorer_(device, *memory_, sizes.num_tokens) {}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(Device& device,
                                                         Communicator& comm,
                                                         const Sizes& sizes) {
  DS_ASSIGN_OR_RETURN(auto memory, StepMemory::Create(device, MemoryOf(sizes, comm.rank())));
  return std::unique_ptr<Sampler>(new Sampler(device, comm, sizes, std::move(memory)));
}

absl::StatusOr<Sampler::Started> Sampler::Start(const Inputs& inputs, Arena& arena) {
  const ScorePlan& score = *inputs.score;
  memory_->NextStep();
  Started started;
  if (!score.order.empty()) {
    const ArenaScope scope(arena);
    const TensorView ids = arena.Allocate(DType::kI32, {static_cast<int64_t>(score.order.size())});
    DS_RETURN_IF_ERROR(RunGathered(inputs, ids, arena, &started));
    // Last: what it leaves in the arena must not stand beside the rows that are gathered.
    const TensorView pairs = GatherPairs(inputs, arena);
    device_.ops().StoreSampled({.pairs = pairs,
                                .forced = inputs.forced_ids,
                                .slot = inputs.sampled_slot,
                                .id = ids,
                                .slot_last_token = inputs.slot_last_token});
    started.ids = memory_->ToHost<int32_t>(ids);
  }
  DS_RETURN_IF_ERROR(RunPrompt(inputs, arena, &started));
  RunLogits(inputs, arena, &started);
  return started;
}

absl::StatusOr<StepResult> Sampler::Finish(const ScorePlan& score, const Started& started) const {
  StepResult result;
  result.ids.resize(score.sampled.size());
  for (size_t i = 0; i < score.order.size(); ++i) {
    const int32_t id = started.ids[i];
    if (id < 0 || id >= sizes_.num_tokens) {
      return absl::InternalError(
          absl::StrCat("sampling gave token ", id, " of ", sizes_.num_tokens,
                       ": the row's logits are not finite; check the weights"));
    }
    result.ids[static_cast<size_t>(score.order[i])] = id;
  }
  if (comm_.rank() != 0) return result;
  result.logprobs.resize(score.sampled.size());
  for (const auto& scores : started.sampled) TokenScorer::Finish(scores, &result.logprobs);
  result.prompt_scores.resize(score.prompt.size());
  for (const auto& scores : started.prompt) TokenScorer::Finish(scores, &result.prompt_scores);
  for (const auto& row : started.logits) result.logits.emplace_back(row.begin(), row.end());
  return result;
}

TensorView Sampler::GatherPairs(const Inputs& inputs, Arena& arena) {
  const int64_t rows = inputs.score->num_merged;
  if (rows == 0) return TensorView();
  const TensorView all = arena.Allocate(DType::kI32, {comm_.size(), 2, rows});
  const ArenaScope scope(arena);
  TensorView logits = inputs.logits;
  if (rows != logits.dim(0)) {
    logits = arena.Allocate(DType::kF32, {rows, sizes_.local_rows});
    device_.ops().GatherRows(
        {.x = inputs.logits, .rows = inputs.sampled_scored.Rows(0, rows), .out = logits});
  }
  const SampleParams params = Slice(inputs.params, 0, rows);
  const TensorView pairs = comm_.size() > 1 ? arena.Allocate(DType::kI32, {2, rows}) : all.Row(0);
  const TensorView values = pairs.Row(0);
  device_.ops().SampleLocal({.logits = logits,
                             .first_id = sizes_.local_begin,
                             .num_tokens = sizes_.num_tokens,
                             .params = &params,
                             .value = TensorView(values.data(), DType::kF32, {rows}),
                             .id = pairs.Row(1)});
  if (comm_.size() > 1) comm_.AllGather(pairs, all);
  return all;
}

TensorView Sampler::GatherWholeRows(TensorView logits, TensorView scored, Arena& arena) {
  const int64_t rows = scored.numel();
  const int64_t size = comm_.size();
  const TensorView mine = arena.Allocate(DType::kF32, {rows, sizes_.local_rows});
  device_.ops().GatherRows({.x = logits, .rows = scored, .out = mine});
  if (size == 1) return mine;
  if (comm_.rank() != 0) {
    comm_.Gather(mine.Reshape({rows * sizes_.local_rows}), TensorView(), 0);
    return TensorView();
  }
  const TensorView parts = arena.Allocate(DType::kF32, {size, rows, sizes_.local_rows});
  comm_.Gather(mine.Reshape({rows * sizes_.local_rows}),
               parts.Reshape({size, rows * sizes_.local_rows}), 0);
  const TensorView whole = arena.Allocate(DType::kF32, {rows, size * sizes_.local_rows});
  const TensorView pieces = whole.Reshape({rows * size, sizes_.local_rows});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t rank = 0; rank < size; ++rank) {
      device_.Copy(pieces.Row(row * size + rank), parts.Row(rank).Row(row));
    }
  }
  return whole;
}

absl::StatusOr<TensorView> Sampler::Edited(const Inputs& inputs,
                                           int64_t begin,
                                           TensorView whole,
                                           Arena& arena) const {
  std::vector<const LogitHistory*> histories;
  bool any = false;
  for (int64_t row = 0; row < whole.dim(0); ++row) {
    const int32_t sampled = inputs.score->order[static_cast<size_t>(begin + row)];
    histories.push_back(inputs.histories[static_cast<size_t>(sampled)]);
    any |= histories.back() != nullptr;
  }
  if (!any) return whole;
  // Log-probabilities are those of the model, without the rules.
  const TensorView edited = arena.Allocate(DType::kF32, {whole.dim(0), whole.dim(1)});
  device_.Copy(edited, whole);
  DS_RETURN_IF_ERROR(editor_.Edit(histories, edited, arena));
  return edited;
}

absl::Status Sampler::SampleBlock(const Inputs& inputs,
                                  int64_t begin,
                                  int64_t count,
                                  TensorView ids,
                                  Arena& arena,
                                  Started* started) {
  const ArenaScope scope(arena);
  const TensorView whole =
      GatherWholeRows(inputs.logits, inputs.sampled_scored.Rows(begin, count), arena);
  if (comm_.rank() != 0) return absl::OkStatus();
  const SampleParams params = Slice(inputs.params, begin, count);
  DS_ASSIGN_OR_RETURN(const TensorView edited, Edited(inputs, begin, whole, arena));
  device_.ops().Sample(
      {.logits = edited, .num_tokens = sizes_.num_tokens, .params = &params, .id = ids}, arena);
  return ScoreSampled(inputs, begin, whole, ids, arena, started);
}

absl::Status Sampler::ScoreSampled(const Inputs& inputs,
                                   int64_t begin,
                                   TensorView whole,
                                   TensorView ids,
                                   Arena& arena,
                                   Started* started) const {
  std::vector<TokenScorer::Wanted> wanted(static_cast<size_t>(ids.numel()));
  bool any = false;
  for (size_t row = 0; row < wanted.size(); ++row) {
    const auto at = static_cast<size_t>(inputs.score->order[static_cast<size_t>(begin) + row]);
    const ScorePlan::Sampled& sampled = inputs.score->sampled[at];
    if (sampled.scoring != Scoring::kGatheredLogProbs) continue;
    any = true;
    wanted[row] = {.to = static_cast<int64_t>(at),
                   .num_top = sampled.num_top,
                   .named = inputs.logprob_ids[at]};
  }
  if (!any) return absl::OkStatus();
  for (size_t row = 0; row < wanted.size(); ++row) {  // they are those of the forced ids
    const auto at = static_cast<size_t>(inputs.score->order[static_cast<size_t>(begin) + row]);
    if (inputs.forced[at] < 0) continue;
    const auto to = static_cast<int64_t>(row);
    device_.Copy(ids.Rows(to, 1), inputs.forced_ids.Rows(begin + to, 1));
  }
  DS_ASSIGN_OR_RETURN(TokenScorer::Started scores, scorer_.Start(whole, ids, wanted, arena));
  started->sampled.push_back(std::move(scores));
  return absl::OkStatus();
}

absl::Status Sampler::RunGathered(const Inputs& inputs,
                                  TensorView ids,
                                  Arena& arena,
                                  Started* started) {
  const int64_t first = inputs.score->num_merged;
  const int64_t rows = ids.numel() - first;
  if (rows == 0) return absl::OkStatus();
  for (int64_t begin = first; begin < ids.numel(); begin += kGatherRows) {
    const int64_t count = std::min(kGatherRows, ids.numel() - begin);
    DS_RETURN_IF_ERROR(SampleBlock(inputs, begin, count, ids.Rows(begin, count), arena, started));
  }
  if (comm_.size() > 1) comm_.Broadcast(ids.Rows(first, rows), 0);
  return absl::OkStatus();
}

absl::Status Sampler::RunPrompt(const Inputs& inputs, Arena& arena, Started* started) {
  const std::vector<ScorePlan::PromptToken>& tokens = inputs.score->prompt;
  const auto rows = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < rows; begin += kGatherRows) {
    const ArenaScope scope(arena);
    const int64_t count = std::min(kGatherRows, rows - begin);
    const TensorView whole =
        GatherWholeRows(inputs.logits, inputs.prompt_scored.Rows(begin, count), arena);
    if (comm_.rank() != 0) continue;
    std::vector<TokenScorer::Wanted> wanted;
    for (int64_t at = begin; at < begin + count; ++at) {
      wanted.push_back({.to = at, .num_top = tokens[static_cast<size_t>(at)].num_top});
    }
    DS_ASSIGN_OR_RETURN(TokenScorer::Started scores,
                        scorer_.Start(whole, inputs.prompt_ids.Rows(begin, count), wanted, arena));
    started->prompt.push_back(std::move(scores));
  }
  return absl::OkStatus();
}

void Sampler::RunLogits(const Inputs& inputs, Arena& arena, Started* started) {
  const int64_t rows = static_cast<int64_t>(inputs.score->logits.size());
  for (int64_t begin = 0; begin < rows; begin += kGatherRows) {
    const ArenaScope scope(arena);
    const int64_t count = std::min(kGatherRows, rows - begin);
    const TensorView whole =
        GatherWholeRows(inputs.logits, inputs.logits_scored.Rows(begin, count), arena);
    if (comm_.rank() != 0) continue;
    for (int64_t row = 0; row < count; ++row) {
      started->logits.push_back(memory_->ToHost<float>(whole.Row(row).Rows(0, sizes_.vocab_rows)));
    }
  }
}

}  // namespace deltaserve
