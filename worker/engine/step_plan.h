#pragma once

// StepPlan: one step as rank 0 decided it: deltas of the slot table and the rows to run. Every rank
// applies the same stream of plans, so a recorded stream replays a world.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/request.h"

namespace deltaserve {

enum class PlanKind : uint8_t {
  kStep = 1,  // deltas, then rows
  kIdle = 2,  // deltas; then the other ranks sleep until they are woken
  kStop = 3,  // deltas; then every rank ends
};

// What is sampled from a row's logits and how. Part of the plan, so that every rank
// makes the same collectives; depends on the row's own request alone.
enum class Scoring : uint8_t {
  kNone = 0,              // not sampled
  kMerged = 1,            // greedy or pure temperature: one (value, id) a rank
  kGathered = 2,          // filters or rules: whole rows go to rank 0
  kGatheredLogProbs = 3,  // the same, and log-probabilities come back to the scheduler
};

Scoring ScoringOf(const SamplingSettings& sampling, bool rules, bool logprobs);

// A slot begins: empty, and its state is zeroed by a StateOp of the same plan.
struct OpenSlot {
  int32_t slot = 0;
  int32_t state = 0;
  SamplingSettings sampling = {};
  uint32_t sample_index = 0;
  uint32_t num_generated = 0;             // of a resumed request, counted by the random counter
  ForcedExit forced_exit = {};            // no force_ids: none
  bool exit_seen = false;                 // one of its watch_ids is among the resumed tokens
  LogitRules rules = {};                  // empty: none
  uint32_t num_prompt = 0;                // of the tokens to be prefilled; for rules
  std::vector<int32_t> logprob_ids = {};  // Request::logprob_ids
  std::vector<int32_t> blocks = {};       // KV block of each 64 positions
};

enum class StateAction : uint8_t { kZero = 1 };

struct StateOp {
  StateAction action = StateAction::kZero;
  int32_t state = 0;
  bool operator==(const StateOp&) const = default;
};

// Adds blocks at the end of a slot's table.
struct GrowSlot {
  int32_t slot = 0;
  std::vector<int32_t> blocks = {};
  bool operator==(const GrowSlot&) const = default;
};

// The token and position of a decode row are known to the slot table, not named here: so a plan can
// be made before the step before it has ended.
struct DecodeRow {
  int32_t slot = 0;
  Scoring scoring = Scoring::kMerged;
  uint8_t num_top = 0;  // alternatives, for kGatheredLogProbs
  bool operator==(const DecodeRow&) const = default;
};

struct PrefillChunk {
  int32_t slot = 0;
  int32_t start = 0;  // multiple of 64; the slot's length
  std::vector<int32_t> ids = {};
  std::vector<int32_t> logit_offsets = {};  // into ids, ascending: rows whose logits rank 0 wants
  // The ids that come after each of the first rows, to be scored there, and alternatives of each.
  std::vector<int32_t> score_ids = {};
  uint8_t score_top = 0;
  Scoring scoring = Scoring::kNone;  // of the last row: kNone unless it ends the prompt
  uint8_t num_top = 0;
  bool operator==(const PrefillChunk&) const = default;

  // Rows whose logits rank 0 gets besides those of sampling, kMaxLogitRows in a step.
  int64_t num_logit_rows() const;
};

// Applied in this order of fields. A slot has at most one of decode and chunk.
struct StepPlan {
  PlanKind kind = PlanKind::kStep;
  uint32_t predicted_ms = 0;  // for the watchdog of every rank
  std::vector<int32_t> closes = {};
  std::vector<OpenSlot> opens = {};
  std::vector<StateOp> state_ops = {};
  std::vector<GrowSlot> grows = {};
  std::vector<DecodeRow> decodes = {};
  std::vector<PrefillChunk> chunks = {};

  int64_t num_chunk_rows() const;
  int64_t num_new_blocks() const;  // of slots that open or grow
  int64_t num_rows() const { return static_cast<int64_t>(decodes.size()) + num_chunk_rows(); }
};

bool operator==(const OpenSlot& a, const OpenSlot& b);
bool operator==(const StepPlan& a, const StepPlan& b);

// Of the bytes below: plans of another version cannot be read.
uint8_t PlanVersion();

// Little-endian bytes of `plan`, in place of what `out` held.
void SerializePlan(const StepPlan& plan, std::vector<uint8_t>* out);

// The way back. DATA_LOSS for bytes that no plan serialises to; what a well-formed plan says is
// SlotTable's to check.
absl::StatusOr<StepPlan> ParsePlan(std::span<const uint8_t> bytes);

// Which rows of the batch are scored, and what for. Derived from the plan, so equal on all ranks.
struct ScorePlan {
  struct Sampled {
    int32_t slot = 0;
    int32_t scored = 0;  // index into rows
    Scoring scoring = Scoring::kMerged;
    int num_top = 0;
  };
  struct Logits {
    int32_t slot = 0;
    int32_t position = 0;
    int32_t scored = 0;  // index into rows
  };
  // A token of a prompt, scored by the row before it.
  struct PromptToken {
    int32_t id = 0;
    int32_t scored = 0;  // index into rows
    int num_top = 0;
  };

  std::vector<int32_t> rows;  // of the batch, ascending
  std::vector<Sampled> sampled;
  std::vector<PromptToken> prompt;
  std::vector<Logits> logits;
  // Indices into sampled: the kMerged ones, then the others, each ascending.
  std::vector<int32_t> order;
  int64_t num_merged = 0;
};

ScorePlan MakeScorePlan(const StepPlan& plan);

}  // namespace deltaserve
