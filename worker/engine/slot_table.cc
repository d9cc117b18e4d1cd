#include "worker/engine/slot_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/ops.h"
#include "proto/params_check.h"
#include "worker/comm/crc32.h"

namespace deltaserve {
namespace {

absl::Status Misfit(const std::string& what) {
  return absl::DataLossError("plan does not fit the slot table: " + what);
}

// Collects 32-bit words for a checksum.
class WordCrc {
 public:
  explicit WordCrc(uint32_t seed) : crc_(seed) {}

  void Add(uint32_t word) {
    const uint8_t bytes[4] = {static_cast<uint8_t>(word), static_cast<uint8_t>(word >> 8),
                              static_cast<uint8_t>(word >> 16), static_cast<uint8_t>(word >> 24)};
    crc_ = Crc32(bytes, crc_);
  }
  void Add(int32_t word) { Add(static_cast<uint32_t>(word)); }
  void Add(float word) { Add(std::bit_cast<uint32_t>(word)); }
  uint32_t crc() const { return crc_; }

 private:
  uint32_t crc_;
};

}  // namespace

SlotTable::SlotTable(const SlotLimits& limits)
    : limits_(limits), slots_(static_cast<size_t>(limits.num_slots)) {}

absl::Status SlotTable::CheckOpen(int32_t slot, const char* what) const {
  if (slot < 0 || slot >= limits_.num_slots) {
    return Misfit(absl::StrCat(what, " of slot ", slot, " of ", limits_.num_slots));
  }
  if (!this->slot(slot).open) return Misfit(absl::StrCat(what, " of slot ", slot, ", not open"));
  return absl::OkStatus();
}

absl::Status SlotTable::ApplyClose(int32_t slot) {
  DS_RETURN_IF_ERROR(CheckOpen(slot, "close"));
  Slot& closed = slots_[static_cast<size_t>(slot)];
  closed = Slot{.opening = closed.opening + 1};
  return absl::OkStatus();
}

absl::Status SlotTable::Append(int32_t slot, std::span<const int32_t> blocks) {
  Slot& target = slots_[static_cast<size_t>(slot)];
  for (const int32_t block : blocks) {
    if (block < 0 || block >= limits_.num_blocks) {
      return Misfit(absl::StrCat("block ", block, " of ", limits_.num_blocks));
    }
    target.blocks.push_back(block);
  }
  if (static_cast<int64_t>(target.blocks.size()) > limits_.max_blocks_per_slot) {
    return Misfit(absl::StrCat("slot ", slot, " has ", target.blocks.size(), " blocks, ",
                               limits_.max_blocks_per_slot, " at most"));
  }
  return absl::OkStatus();
}

bool SlotTable::HaveRows(std::span<const int32_t> ids) const {
  return std::all_of(ids.begin(), ids.end(), [this](int32_t id) { return HasRow(id); });
}

absl::Status SlotTable::CheckRules(const LogitRules& rules) const {
  bool fits = HaveRows(rules.allowed) && HaveRows(rules.ends);
  for (const auto& [id, bias] : rules.bias) fits = fits && HasRow(id);
  for (const std::vector<int32_t>& sequence : rules.banned) {
    fits = fits && !sequence.empty() && HasRow(sequence.back());
  }
  return fits ? absl::OkStatus() : Misfit("rules name ids that have no logit");
}

absl::Status SlotTable::ApplyOpen(const OpenSlot& open) {
  if (open.slot < 0 || open.slot >= limits_.num_slots) {
    return Misfit(absl::StrCat("open of slot ", open.slot, " of ", limits_.num_slots));
  }
  Slot& slot = slots_[static_cast<size_t>(open.slot)];
  if (slot.open) return Misfit(absl::StrCat("open of slot ", open.slot, ", which is open"));
  if (open.state < 0 || open.state >= limits_.num_states) {
    return Misfit(absl::StrCat("state ", open.state, " of ", limits_.num_states));
  }
  slot = Slot{.open = true,
              .opening = slot.opening + 1,
              .num_generated = open.num_generated,
              .state = open.state,
              .sample_index = open.sample_index,
              .sampling = open.sampling,
              .forced_exit = open.forced_exit,
              .exit_seen = open.exit_seen,
              .logprob_ids = open.logprob_ids};
  if (!HaveRows(open.logprob_ids) ||
      static_cast<int64_t>(open.logprob_ids.size()) > kMaxLogProbIds) {
    return Misfit(absl::StrCat(open.logprob_ids.size(), " ids to be scored, ", kMaxLogProbIds,
                               " at most, each with a logit"));
  }
  if (!open.rules.empty()) {
    DS_RETURN_IF_ERROR(CheckRules(open.rules));
    slot.history.emplace(open.rules, open.num_prompt);
  }
  for (const int32_t id : open.forced_exit.force_ids) {
    if (id < 0 || id >= limits_.vocab_rows) {
      return Misfit(absl::StrCat("forced token ", id, " of ", limits_.vocab_rows));
    }
  }
  return Append(open.slot, open.blocks);
}

absl::Status SlotTable::CheckDecode(const DecodeRow& decode) const {
  DS_RETURN_IF_ERROR(CheckOpen(decode.slot, "decode"));
  const Slot& slot = this->slot(decode.slot);
  if (!slot.has_token()) {
    return Misfit(absl::StrCat("decode of slot ", decode.slot, ", which has no token yet"));
  }
  if (decode.scoring == Scoring::kNone) {
    return Misfit(absl::StrCat("decode of slot ", decode.slot, " without sampling"));
  }
  if (decode.num_top > kMaxLogprobs) {
    return Misfit(absl::StrCat("decode of slot ", decode.slot, " with ", decode.num_top,
                               " alternatives, ", kMaxLogprobs, " at most"));
  }
  if (slot.length >= static_cast<int64_t>(slot.blocks.size()) * kBlockTokens) {
    return Misfit(absl::StrCat("decode of slot ", decode.slot, " beyond its blocks"));
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckChunk(const PrefillChunk& chunk) const {
  DS_RETURN_IF_ERROR(CheckOpen(chunk.slot, "chunk"));
  const Slot& slot = this->slot(chunk.slot);
  const int64_t length = static_cast<int64_t>(chunk.ids.size());
  if (chunk.start != slot.length || chunk.start % kBlockTokens != 0 || slot.has_token()) {
    return Misfit(absl::StrCat("chunk of slot ", chunk.slot, " starts at ", chunk.start,
                               ", the slot holds ", slot.length));
  }
  if (length == 0 ||
      chunk.start + length > static_cast<int64_t>(slot.blocks.size()) * kBlockTokens) {
    return Misfit(absl::StrCat("chunk of ", length, " tokens at ", chunk.start, " of slot ",
                               chunk.slot, ", which has ", slot.blocks.size(), " blocks"));
  }
  for (const int32_t id : chunk.ids) {
    if (id < 0 || id >= limits_.vocab_rows) {
      return Misfit(absl::StrCat("token ", id, " of ", limits_.vocab_rows));
    }
  }
  return CheckLogitRows(chunk);
}

absl::Status SlotTable::CheckLogitRows(const PrefillChunk& chunk) const {
  const int64_t length = static_cast<int64_t>(chunk.ids.size());
  if (static_cast<int64_t>(chunk.score_ids.size()) > length || !HaveRows(chunk.score_ids)) {
    return Misfit(absl::StrCat(chunk.score_ids.size(), " ids scored by a chunk of ", length,
                               ", or one that has no logit"));
  }
  if (chunk.score_top > kMaxLogprobs || chunk.num_top > kMaxLogprobs) {
    return Misfit(absl::StrCat("chunk of slot ", chunk.slot, " with ",
                               std::max(chunk.score_top, chunk.num_top), " alternatives, ",
                               kMaxLogprobs, " at most"));
  }
  int64_t before = -1;
  for (const int32_t offset : chunk.logit_offsets) {
    if (offset <= before || offset >= length || !limits_.prompt_logits) {
      return Misfit(absl::StrCat("logits at ", offset, " of a chunk of ", length));
    }
    before = offset;
  }
  return absl::OkStatus();
}

absl::Status SlotTable::Apply(const StepPlan& plan) {
  for (const int32_t slot : plan.closes) DS_RETURN_IF_ERROR(ApplyClose(slot));
  for (const OpenSlot& open : plan.opens) DS_RETURN_IF_ERROR(ApplyOpen(open));
  for (const StateOp& op : plan.state_ops) {
    if (op.state < 0 || op.state >= limits_.num_states) {
      return Misfit(absl::StrCat("state ", op.state, " of ", limits_.num_states));
    }
  }
  for (const GrowSlot& grow : plan.grows) {
    DS_RETURN_IF_ERROR(CheckOpen(grow.slot, "growth"));
    DS_RETURN_IF_ERROR(Append(grow.slot, grow.blocks));
  }
  if (plan.num_new_blocks() > limits_.num_blocks) {
    return Misfit(
        absl::StrCat(plan.num_new_blocks(), " new blocks of ", limits_.num_blocks, " in all"));
  }
  std::vector<bool> seen(slots_.size());
  const auto check_once = [&seen](int32_t slot) {
    if (seen[static_cast<size_t>(slot)]) return Misfit(absl::StrCat("slot ", slot, " runs twice"));
    seen[static_cast<size_t>(slot)] = true;
    return absl::OkStatus();
  };
  int64_t logit_rows = 0;
  for (const DecodeRow& decode : plan.decodes) {
    DS_RETURN_IF_ERROR(CheckDecode(decode));
    DS_RETURN_IF_ERROR(check_once(decode.slot));
  }
  for (const PrefillChunk& chunk : plan.chunks) {
    DS_RETURN_IF_ERROR(CheckChunk(chunk));
    DS_RETURN_IF_ERROR(check_once(chunk.slot));
    if (std::optional<LogitHistory>& history = slots_[static_cast<size_t>(chunk.slot)].history) {
      for (const int32_t id : chunk.ids) history->Add(id);
    }
    logit_rows += chunk.num_logit_rows();
  }
  if (plan.num_rows() > limits_.max_rows || logit_rows > kMaxLogitRows) {
    return Misfit(absl::StrCat(plan.num_rows(), " rows, ", logit_rows, " of them for logits; ",
                               limits_.max_rows, " and ", kMaxLogitRows, " at most"));
  }
  return absl::OkStatus();
}

void SlotTable::Advance(const StepPlan& plan) {
  std::vector<Awaited> sampled;
  const auto sample = [&sampled](int32_t index, Slot& slot) {
    ++slot.num_generated;
    ++slot.num_awaited;
    sampled.push_back({.slot = index, .opening = slot.opening});
  };
  for (const DecodeRow& decode : plan.decodes) {
    Slot& slot = slots_[static_cast<size_t>(decode.slot)];
    ++slot.length;
    sample(decode.slot, slot);
  }
  for (const PrefillChunk& chunk : plan.chunks) {
    Slot& slot = slots_[static_cast<size_t>(chunk.slot)];
    slot.length += static_cast<int32_t>(chunk.ids.size());
    if (chunk.scoring != Scoring::kNone) sample(chunk.slot, slot);
  }
  awaited_.push_back(std::move(sampled));
}

void SlotTable::TakeIds(std::span<const int32_t> ids) {
  DS_CHECK(!awaited_.empty()) << "no step awaits ids";
  const std::vector<Awaited> sampled = std::move(awaited_.front());
  awaited_.pop_front();
  DS_CHECK_EQ(sampled.size(), ids.size());
  WordCrc history(history_);
  for (size_t i = 0; i < ids.size(); ++i) {
    history.Add(ids[i]);
    Slot& slot = slots_[static_cast<size_t>(sampled[i].slot)];
    if (slot.opening != sampled[i].opening) continue;  // ended before its last token was known
    const uint32_t index = slot.num_generated - static_cast<uint32_t>(slot.num_awaited);
    --slot.num_awaited;
    slot.last_token = ids[i];
    if (slot.history.has_value()) slot.history->Add(ids[i]);
    if (index < slot.forced_exit.after_tokens && slot.forced_exit.Watches(ids[i])) {
      slot.exit_seen = true;
    }
  }
  history_ = history.crc();
}

int64_t SlotTable::num_open() const {
  int64_t open = 0;
  for (const Slot& slot : slots_) open += slot.open ? 1 : 0;
  return open;
}

uint32_t SlotTable::Digest() const {
  DS_CHECK(awaited_.empty()) << awaited_.size() << " steps await their ids";
  WordCrc crc(history_);
  for (const Slot& slot : slots_) {
    crc.Add(slot.open ? 1u : 0u);
    if (!slot.open) continue;
    crc.Add(slot.length);
    crc.Add(slot.last_token);
    crc.Add(slot.num_generated);
    crc.Add(slot.state);
    crc.Add(slot.sample_index);
    crc.Add(slot.sampling.temperature);
    crc.Add(slot.sampling.top_p);
    crc.Add(slot.sampling.top_k);
    crc.Add(slot.sampling.min_p);
    crc.Add(static_cast<uint32_t>(slot.sampling.seed));
    crc.Add(static_cast<uint32_t>(slot.sampling.seed >> 32));
    for (const int32_t id : slot.forced_exit.watch_ids) crc.Add(id);
    crc.Add(slot.forced_exit.after_tokens);
    for (const int32_t id : slot.forced_exit.force_ids) crc.Add(id);
    crc.Add(slot.exit_seen ? 1u : 0u);
    crc.Add(slot.history.has_value() ? 1u : 0u);
    for (const int32_t id : slot.logprob_ids) crc.Add(id);
    crc.Add(static_cast<uint32_t>(slot.blocks.size()));
    for (const int32_t block : slot.blocks) crc.Add(block);
  }
  return crc.crc();
}

}  // namespace deltaserve
