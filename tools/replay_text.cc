#include "tools/replay_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace deltaserve {
namespace {

const char* KindName(PlanKind kind) {
  switch (kind) {
    case PlanKind::kStep:
      return "step";
    case PlanKind::kIdle:
      return "idle";
    case PlanKind::kStop:
      return "stop";
  }
  return "";
}

const char* ScoringName(Scoring scoring) {
  switch (scoring) {
    case Scoring::kNone:
      return "not sampled";
    case Scoring::kMerged:
      return "merged";
    case Scoring::kGathered:
      return "gathered";
    case Scoring::kGatheredLogProbs:
      return "gathered, logprobs";
  }
  return "";
}

std::string Ids(const std::vector<int32_t>& ids) { return absl::StrJoin(ids, " "); }

std::string RulesText(const LogitRules& rules) {
  std::string text =
      absl::StrCat("; penalties: presence ", rules.presence_penalty, ", frequency ",
                   rules.frequency_penalty, ", repetition ", rules.repetition_penalty);
  for (const auto& [id, bias] : rules.bias) absl::StrAppend(&text, "; bias ", bias, " of ", id);
  if (rules.allows_some) absl::StrAppend(&text, "; allowed ", Ids(rules.allowed));
  for (const std::vector<int32_t>& ids : rules.banned)
    absl::StrAppend(&text, "; banned ", Ids(ids));
  if (rules.min_tokens > 0) {
    absl::StrAppend(&text, "; at least ", rules.min_tokens, " tokens before ", Ids(rules.ends));
  }
  return text;
}

std::string OpenText(const OpenSlot& open) {
  std::string text = absl::StrCat(
      "  open slot ", open.slot, ": state ", open.state, ", blocks ", Ids(open.blocks),
      "; temperature ", open.sampling.temperature, ", top_p ", open.sampling.top_p, ", top_k ",
      open.sampling.top_k, ", min_p ", open.sampling.min_p, ", seed ", open.sampling.seed,
      ", sample ", open.sample_index, ", ", open.num_generated, " generated before");
  if (!open.forced_exit.force_ids.empty()) {
    absl::StrAppend(&text, "; after ", open.forced_exit.after_tokens, " without ",
                    Ids(open.forced_exit.watch_ids), " forces ", Ids(open.forced_exit.force_ids));
  }
  if (!open.rules.empty()) text += RulesText(open.rules);
  if (!open.logprob_ids.empty()) {
    absl::StrAppend(&text, "; logprobs of ", Ids(open.logprob_ids));
  }
  return text + "\n";
}

std::string DeltasText(const StepPlan& plan) {
  std::string text;
  if (!plan.closes.empty()) absl::StrAppend(&text, "  close slots ", Ids(plan.closes), "\n");
  for (const OpenSlot& open : plan.opens) text += OpenText(open);
  for (const StateOp& op : plan.state_ops) absl::StrAppend(&text, "  zero state ", op.state, "\n");
  for (const GrowSlot& grow : plan.grows) {
    absl::StrAppend(&text, "  grow slot ", grow.slot, ": blocks ", Ids(grow.blocks), "\n");
  }
  return text;
}

// The sampled id of row `sampled` of the plan, where it is known.
std::string Gave(const RecordedStep& step, size_t sampled) {
  if (!step.result.has_value()) return "";
  return absl::StrCat(" -> ", step.result->ids[sampled]);
}

}  // namespace

std::string HeaderText(const RecordingHeader& header) {
  return absl::StrCat(
      "recorded by build ", header.build_id, ", numerics ", header.numerics, "\nmodel ",
      header.model, ", --load ", header.load, ", weights ", header.weights_fingerprint, "\n",
      header.ranks, " ranks, --moe ", header.moe, ", --linear-attention ", header.linear_attention,
      ", --quantize ", header.quantize, "; ", header.slots, " slots, ", header.kv_blocks,
      " KV blocks, contexts of ", header.max_context, ", steps of up to ", header.token_budget,
      " prompt tokens\n", header.ops ? "with" : "without", " checksums of ops\n");
}

std::string StepText(const RecordedStep& step) {
  const StepPlan& plan = step.plan;
  std::string text = absl::StrCat("step ", step.step, ": ", KindName(plan.kind), ", ",
                                  plan.decodes.size(), " decodes, ", plan.chunks.size(),
                                  " chunks of ", plan.num_chunk_rows(), " tokens\n");
  text += DeltasText(plan);
  size_t sampled = 0;
  for (const DecodeRow& decode : plan.decodes) {
    absl::StrAppend(&text, "  decode slot ", decode.slot, " (", ScoringName(decode.scoring), ")",
                    Gave(step, sampled++), "\n");
  }
  for (const PrefillChunk& chunk : plan.chunks) {
    absl::StrAppend(&text, "  chunk of slot ", chunk.slot, " at ", chunk.start, " (",
                    ScoringName(chunk.scoring), "): ", Ids(chunk.ids));
    if (!chunk.score_ids.empty()) {
      absl::StrAppend(&text, "; its first ", chunk.score_ids.size(), " rows score ",
                      Ids(chunk.score_ids));
    }
    if (chunk.scoring != Scoring::kNone) text += Gave(step, sampled++);
    text += "\n";
  }
  if (!step.result.has_value()) text += "  no result: the world ended in this step\n";
  return text;
}

std::string ReportText(const ReplayReport& report, const ReplayOptions& options) {
  std::string compared = absl::StrCat(report.tokens, " tokens");
  if (options.checksums) {
    absl::StrAppend(&compared, ", ", report.logit_rows, " rows of logits, the slot tables");
  }
  if (options.ops != nullptr) absl::StrAppend(&compared, ", ", report.num_ops, " ops");
  std::string text = absl::StrCat(report.identical() ? "identical" : "different", ": compared ",
                                  compared, " of ", report.steps, " steps\n");
  for (const ReplayDifference& difference : report.first) {
    absl::StrAppend(&text, "  ", difference.ToString(), "\n");
  }
  if (report.differing_steps > 1) {
    absl::StrAppend(&text, "  and ", report.differing_steps - 1, " later steps differ\n");
  }
  if (report.first_token.has_value()) {
    absl::StrAppend(
        &text, "  ended at the first token that differs: ", report.first_token->ToString(), "\n");
  }
  if (report.without_result.has_value()) {
    absl::StrAppend(&text, "  step ", *report.without_result,
                    " has no result: the recorded world ended in it; it ran here\n");
  }
  if (report.num_cut_bytes > 0) {
    absl::StrAppend(&text, "  warning: the last ", report.num_cut_bytes,
                    " bytes are no whole record: the file was cut or its world killed\n");
  }
  if (!report.recording.ok()) {
    absl::StrAppend(&text, "  ", std::string(report.recording.message()), "\n");
  }
  return text;
}

}  // namespace deltaserve
