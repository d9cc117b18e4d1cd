// Serialisation of StepPlan.

#include "absl/strings/str_cat.h"
#include "worker/engine/byte_stream.h"
#include "worker/engine/step_plan.h"

namespace deltaserve {
namespace {

constexpr uint8_t kVersion = 5;

using Writer = ByteWriter;
using Reader = ByteReader;

void Write(const LogitRules& rules, Writer& out) {
  out.U8(rules.empty() ? 0 : 1);
  if (rules.empty()) return;
  out.F32(rules.presence_penalty);
  out.F32(rules.frequency_penalty);
  out.F32(rules.repetition_penalty);
  out.Count(rules.bias.size());
  for (const auto& [id, bias] : rules.bias) {
    out.I32(id);
    out.F32(bias);
  }
  out.U8(rules.allows_some ? 1 : 0);
  out.Ints(rules.allowed);
  out.Count(rules.banned.size());
  for (const std::vector<int32_t>& sequence : rules.banned) out.Ints(sequence);
  out.U32(rules.min_tokens);
  out.Ints(rules.ends);
}

LogitRules ReadRules(Reader& in) {
  LogitRules rules;
  if (in.Kind<uint8_t>(0, 1) == 0) return rules;
  rules.presence_penalty = in.F32();
  rules.frequency_penalty = in.F32();
  rules.repetition_penalty = in.F32();
  rules.bias.resize(in.Count(8));
  for (auto& [id, bias] : rules.bias) {
    id = in.I32();
    bias = in.F32();
  }
  rules.allows_some = in.Kind<uint8_t>(0, 1) == 1;
  rules.allowed = in.Ints();
  rules.banned.resize(in.Count(4));
  for (std::vector<int32_t>& sequence : rules.banned) sequence = in.Ints();
  rules.min_tokens = in.U32();
  rules.ends = in.Ints();
  if (rules.empty()) in.Fail();  // one plan has one form
  return rules;
}

void Write(const OpenSlot& open, Writer& out) {
  out.I32(open.slot);
  out.I32(open.state);
  out.F32(open.sampling.temperature);
  out.F32(open.sampling.top_p);
  out.I32(open.sampling.top_k);
  out.F32(open.sampling.min_p);
  out.U64(open.sampling.seed);
  out.U32(open.sample_index);
  out.U32(open.num_generated);
  out.Ints(open.forced_exit.watch_ids);
  out.U32(open.forced_exit.after_tokens);
  out.Ints(open.forced_exit.force_ids);
  out.U8(open.exit_seen ? 1 : 0);
  Write(open.rules, out);
  out.U32(open.num_prompt);
  out.Ints(open.logprob_ids);
  out.Ints(open.blocks);
}

OpenSlot ReadOpen(Reader& in) {
  OpenSlot open;
  open.slot = in.I32();
  open.state = in.I32();
  open.sampling.temperature = in.F32();
  open.sampling.top_p = in.F32();
  open.sampling.top_k = in.I32();
  open.sampling.min_p = in.F32();
  open.sampling.seed = in.U64();
  open.sample_index = in.U32();
  open.num_generated = in.U32();
  open.forced_exit.watch_ids = in.Ints();
  open.forced_exit.after_tokens = in.U32();
  open.forced_exit.force_ids = in.Ints();
  open.exit_seen = in.Kind<uint8_t>(0, 1) == 1;
  open.rules = ReadRules(in);
  open.num_prompt = in.U32();
  open.logprob_ids = in.Ints();
  open.blocks = in.Ints();
  return open;
}

PrefillChunk ReadChunk(Reader& in) {
  PrefillChunk chunk;
  chunk.slot = in.I32();
  chunk.start = in.I32();
  chunk.ids = in.Ints();
  chunk.logit_offsets = in.Ints();
  chunk.score_ids = in.Ints();
  chunk.score_top = in.U8();
  chunk.scoring = in.Kind(Scoring::kNone, Scoring::kGatheredLogProbs);
  chunk.num_top = in.U8();
  return chunk;
}

void WriteRows(const StepPlan& plan, Writer& out) {
  out.Count(plan.decodes.size());
  for (const DecodeRow& decode : plan.decodes) {
    out.I32(decode.slot);
    out.U8(static_cast<uint8_t>(decode.scoring));
    out.U8(decode.num_top);
  }
  out.Count(plan.chunks.size());
  for (const PrefillChunk& chunk : plan.chunks) {
    out.I32(chunk.slot);
    out.I32(chunk.start);
    out.Ints(chunk.ids);
    out.Ints(chunk.logit_offsets);
    out.Ints(chunk.score_ids);
    out.U8(chunk.score_top);
    out.U8(static_cast<uint8_t>(chunk.scoring));
    out.U8(chunk.num_top);
  }
}

void ReadRows(Reader& in, StepPlan* plan) {
  plan->decodes.resize(in.Count(6));
  for (DecodeRow& decode : plan->decodes) {
    decode.slot = in.I32();
    decode.scoring = in.Kind(Scoring::kNone, Scoring::kGatheredLogProbs);
    decode.num_top = in.U8();
  }
  plan->chunks.resize(in.Count(23));
  for (PrefillChunk& chunk : plan->chunks) chunk = ReadChunk(in);
}

}  // namespace

uint8_t PlanVersion() { return kVersion; }

void SerializePlan(const StepPlan& plan, std::vector<uint8_t>* bytes) {
  bytes->clear();
  Writer out(bytes);
  out.U8(kVersion);
  out.U8(static_cast<uint8_t>(plan.kind));
  out.U32(plan.predicted_ms);
  out.Ints(plan.closes);
  out.Count(plan.opens.size());
  for (const OpenSlot& open : plan.opens) Write(open, out);
  out.Count(plan.state_ops.size());
  for (const StateOp& op : plan.state_ops) {
    out.U8(static_cast<uint8_t>(op.action));
    out.I32(op.state);
  }
  out.Count(plan.grows.size());
  for (const GrowSlot& grow : plan.grows) {
    out.I32(grow.slot);
    out.Ints(grow.blocks);
  }
  WriteRows(plan, out);
}

absl::StatusOr<StepPlan> ParsePlan(std::span<const uint8_t> bytes) {
  Reader in(bytes);
  StepPlan plan;
  if (const uint8_t version = in.U8(); version != kVersion) {
    return absl::DataLossError(absl::StrCat("plan of version ", version, ": this rank reads ",
                                            kVersion, "; start every rank from one build"));
  }
  plan.kind = in.Kind(PlanKind::kStep, PlanKind::kStop);
  plan.predicted_ms = in.U32();
  plan.closes = in.Ints();
  plan.opens.resize(in.Count(66));
  for (OpenSlot& open : plan.opens) open = ReadOpen(in);
  plan.state_ops.resize(in.Count(5));
  for (StateOp& op : plan.state_ops) {
    op.action = in.Kind(StateAction::kZero, StateAction::kZero);
    op.state = in.I32();
  }
  plan.grows.resize(in.Count(8));
  for (GrowSlot& grow : plan.grows) {
    grow.slot = in.I32();
    grow.blocks = in.Ints();
  }
  ReadRows(in, &plan);
  if (in.failed() || !in.at_end()) {
    return absl::DataLossError(
        absl::StrCat("a plan of ", bytes.size(), " bytes is damaged: the world cannot go on"));
  }
  return plan;
}

}  // namespace deltaserve
