#include "worker/replay/replay.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "worker/replay/plan_check.h"
#include "worker/replay/step_recorder.h"

namespace deltaserve {
namespace {

std::string Hex(uint64_t checksum) { return absl::StrCat(absl::Hex(checksum, absl::kZeroPad16)); }

// "op 17 of 240, Linear number 5": place and count from 1.
std::string NameOp(const std::vector<OpChecksum>& ops, size_t index) {
  if (index >= ops.size()) return absl::StrCat("op ", index + 1, ", none");
  const auto same = std::count_if(ops.begin(), ops.begin() + static_cast<ptrdiff_t>(index) + 1,
                                  [&](const OpChecksum& op) { return op.kind == ops[index].kind; });
  return absl::StrCat("op ", index + 1, " of ", ops.size(), ", ", OpName(ops[index].kind),
                      " number ", same);
}

// The slot of each row of the batch.
std::vector<int32_t> SlotsOfRows(const StepPlan& plan) {
  std::vector<int32_t> slots;
  for (const DecodeRow& decode : plan.decodes) slots.push_back(decode.slot);
  for (const PrefillChunk& chunk : plan.chunks) {
    slots.insert(slots.end(), chunk.ids.size(), chunk.slot);
  }
  return slots;
}

// The differences of one step, in the order in which they come about.
class StepComparison {
 public:
  StepComparison(const RecordedStep& step, const RecordedResult& got)
      : step_(step), expected_(*step.result), got_(got), score_(MakeScorePlan(step.plan)) {}

  void CompareOps() {
    const auto [expected, got] =
        std::mismatch(expected_.ops.begin(), expected_.ops.end(), got_.ops.begin(), got_.ops.end());
    if (expected == expected_.ops.end() && got == got_.ops.end()) return;
    const auto index = static_cast<size_t>(expected - expected_.ops.begin());
    ReplayDifference& found = Add(ReplayDifference::What::kOp);
    found.op = NameOp(expected_.ops, index);
    const bool same_op =
        expected != expected_.ops.end() && got != got_.ops.end() && expected->kind == got->kind;
    found.expected = same_op ? Hex(expected->checksum) : NameOp(expected_.ops, index);
    found.got = same_op ? Hex(got->checksum) : NameOp(got_.ops, index);
  }

  void CompareLogits() {
    if (expected_.logits.size() != got_.logits.size()) {
      ReplayDifference& found = Add(ReplayDifference::What::kLogits);
      found.expected = absl::StrCat(expected_.logits.size(), " rows");
      found.got = absl::StrCat(got_.logits.size(), " rows");
      return;
    }
    const std::vector<int32_t> slots = SlotsOfRows(step_.plan);
    for (size_t row = 0; row < got_.logits.size(); ++row) {
      if (expected_.logits[row] == got_.logits[row]) continue;
      const int32_t slot = slots[static_cast<size_t>(score_.rows[row])];
      ReplayDifference& found = Add(ReplayDifference::What::kLogits, slot);
      found.expected = Hex(expected_.logits[row]);
      found.got = Hex(got_.logits[row]);
    }
  }

  void CompareTokens() {
    for (size_t i = 0; i < score_.sampled.size(); ++i) {
      if (expected_.ids[i] == got_.ids[i]) continue;
      ReplayDifference& found = Add(ReplayDifference::What::kToken, score_.sampled[i].slot);
      found.expected = absl::StrCat(expected_.ids[i]);
      found.got = absl::StrCat(got_.ids[i]);
    }
  }

  void CompareSlotTable() {
    if (expected_.slot_table == got_.slot_table) return;
    ReplayDifference& found = Add(ReplayDifference::What::kSlotTable);
    found.expected = Hex(expected_.slot_table);
    found.got = Hex(got_.slot_table);
  }

  std::vector<ReplayDifference> Take() { return std::move(found_); }

 private:
  ReplayDifference& Add(ReplayDifference::What what, int32_t slot = -1) {
    found_.push_back({.what = what, .step = step_.step, .slot = slot});
    return found_.back();
  }

  const RecordedStep& step_;
  const RecordedResult& expected_;
  const RecordedResult& got_;
  const ScorePlan score_;
  std::vector<ReplayDifference> found_;
};

void Compare(const RecordedStep& step,
             const RecordedResult& got,
             const ReplayOptions& options,
             ReplayReport* report) {
  StepComparison comparison(step, got);
  if (options.ops != nullptr) {
    comparison.CompareOps();
    report->num_ops += got.ops.size();
  }
  if (options.checksums) {
    comparison.CompareLogits();
    report->logit_rows += got.logits.size();
  }
  comparison.CompareTokens();
  if (options.checksums) comparison.CompareSlotTable();
  ++report->steps;
  report->tokens += got.ids.size();
  std::vector<ReplayDifference> found = comparison.Take();
  if (found.empty()) return;
  for (const ReplayDifference& difference : found) {
    if (difference.what != ReplayDifference::What::kToken) continue;
    report->first_token = difference;
    break;
  }
  if (report->differing_steps++ == 0) report->first = std::move(found);
}

}  // namespace

std::string ReplayDifference::ToString() const {
  const std::string instead = absl::StrCat(got, " instead of ", expected);
  switch (what) {
    case What::kOp:
      return absl::StrCat("step ", step, ": ", op, ": output ", instead);
    case What::kLogits:
      return absl::StrCat("step ", step, ", slot ", slot, ": logits ", instead);
    case What::kToken:
      return absl::StrCat("step ", step, ", slot ", slot, ": token ", instead);
    case What::kSlotTable:
      return absl::StrCat("step ", step, ": slot table ", instead);
  }
  return "";
}

absl::Status CheckReplays(const RecordingHeader& header,
                          const EngineCapacity& capacity,
                          const std::string& fingerprint) {
  if (fingerprint != header.weights_fingerprint) {
    return absl::InvalidArgumentError(absl::StrCat(
        "weights fingerprint is ", fingerprint, ", of the recording ", header.weights_fingerprint,
        ": another model; give the recorded one's folder with --model (it was ", header.model,
        ", --load ", header.load, ")"));
  }
  if (capacity.num_tokens != header.num_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tokenizer has ", capacity.num_tokens, " tokens, that of the recording ",
        header.num_tokens, "; give a folder with the tokenizer files of ", header.model));
  }
  if (capacity.slots < header.slots || capacity.kv_blocks < header.kv_blocks ||
      capacity.max_context < header.max_context) {
    return absl::InvalidArgumentError(
        absl::StrCat("this world has ", capacity.slots, " slots, ", capacity.kv_blocks,
                     " KV blocks and contexts of ", capacity.max_context, ", the recording ",
                     header.slots, ", ", header.kv_blocks, " and ", header.max_context,
                     ": its plans do not fit; give more --kv-memory"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ReplayReport> Replay(RecordingReader& recording,
                                    StepRunner& runner,
                                    const Executor& executor,
                                    Device& device,
                                    const ReplayOptions& options) {
  ReplayReport report;
  bool stopped = false;
  while (!stopped && !report.first_token.has_value()) {
    const absl::StatusOr<std::optional<RecordedStep>> step = recording.Next();
    report.recording = step.status();
    if (!step.ok() || !step->has_value()) break;
    const StepPlan& plan = (*step)->plan;
    if (const absl::Status fits = CheckPlan(plan, executor.slots(), executor.capacity());
        !fits.ok()) {
      report.recording = recording.Damaged(
          (*step)->offset,
          absl::StrCat("the plan of step ", (*step)->step, ": ", std::string(fits.message())));
      break;
    }
    if (options.ops != nullptr) options.ops->Begin();
    DS_ASSIGN_OR_RETURN(const StepResult result, runner.Run(plan));
    std::vector<OpChecksum> ops;
    if (options.ops != nullptr) ops = options.ops->Take();
    stopped = plan.kind == PlanKind::kStop;
    if (!(*step)->result.has_value()) {
      report.without_result = (*step)->step;
      continue;
    }
    Compare(**step, MakeRecordedResult(result, executor, device, std::move(ops)), options, &report);
  }
  report.num_cut_bytes = recording.num_cut_bytes();
  if (!stopped) DS_RETURN_IF_ERROR(runner.Run(StepPlan{.kind = PlanKind::kStop}).status());
  return report;
}

}  // namespace deltaserve
