#include "worker/engine/logit_editor.h"

#include <algorithm>
#include <type_traits>

#include "kernels/base/status_macros.h"
#include "kernels/ops.h"

namespace deltaserve {

size_t LogitEditor::UploadBytes(int64_t rows, int64_t vocab_rows) {
  constexpr size_t kEntriesOfRow = 1024;
  constexpr size_t kArrays = 5;  // of entries
  const size_t mask = static_cast<size_t>((vocab_rows + 31) / 32) * sizeof(uint32_t);
  const size_t row = mask + kEntriesOfRow * kArrays * sizeof(int32_t);
  return StepMemory::Room(static_cast<size_t>(rows) * row, static_cast<size_t>(rows) + kArrays);
}

absl::Status LogitEditor::Penalize(std::span<const LogitHistory* const> histories,
                                   TensorView logits,
                                   Arena& arena) const {
  const int64_t rows = logits.dim(0);
  std::vector<float> repetition, frequency, presence;
  PenaltyEntries entries;
  const LogitRules neutral;
  for (size_t row = 0; row < histories.size(); ++row) {
    const LogitHistory* history = histories[row];
    const LogitRules& rules = history == nullptr ? neutral : history->rules();
    repetition.push_back(rules.repetition_penalty);
    frequency.push_back(rules.frequency_penalty);
    presence.push_back(rules.presence_penalty);
    if (history != nullptr) history->AppendEntries(static_cast<int32_t>(row), &entries);
  }
  PenalizeArgs args;
  args.logits = logits;
  args.repetition = arena.Allocate(DType::kF32, {rows});
  args.frequency = arena.Allocate(DType::kF32, {rows});
  args.presence = arena.Allocate(DType::kF32, {rows});
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.repetition, repetition.data()));
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.frequency, frequency.data()));
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.presence, presence.data()));
  const TensorView memory = arena.Allocate(DType::kI32, {5, kEntries});
  const auto total = static_cast<int64_t>(entries.id.size());
  for (int64_t begin = 0; begin < total; begin += kEntries) {
    const int64_t count = std::min(kEntries, total - begin);
    absl::Status copied;
    const auto column = [&](int64_t which, const auto& values) {
      using T = typename std::remove_cvref_t<decltype(values)>::value_type;
      const TensorView view(memory.Row(which).data(), DTypeOf<T>::value, {count});
      copied.Update(memory_.ToDevice(view, values.data() + begin));
      return view;
    };
    args.row = column(0, entries.row);
    args.id = column(1, entries.id);
    args.seen = column(2, entries.seen);
    args.count = column(3, entries.count);
    args.bias = column(4, entries.bias);
    DS_RETURN_IF_ERROR(copied);
    device_.ops().Penalize(args);
  }
  return absl::OkStatus();
}

absl::Status LogitEditor::Mask(std::span<const LogitHistory* const> histories,
                               TensorView logits,
                               Arena& arena) const {
  const int64_t words = (logits.dim(1) + 31) / 32;
  std::vector<int32_t> masked;
  std::vector<uint32_t> mask;
  for (size_t row = 0; row < histories.size(); ++row) {
    const LogitHistory* history = histories[row];
    if (history == nullptr || !history->masks()) continue;
    masked.push_back(static_cast<int32_t>(row));
    mask.resize(mask.size() + static_cast<size_t>(words));
    history->FillMask(num_tokens_, std::span(mask).last(static_cast<size_t>(words)));
  }
  const TensorView rows = arena.Allocate(DType::kI32, {logits.dim(0)});
  const TensorView bits = arena.Allocate(DType::kU32, {logits.dim(0), words});
  if (masked.empty()) return absl::OkStatus();
  const auto count = static_cast<int64_t>(masked.size());
  const MaskLogitsArgs args{
      .logits = logits, .row = rows.Rows(0, count), .mask = bits.Rows(0, count)};
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.row, masked.data()));
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.mask, mask.data()));
  device_.ops().MaskLogits(args);
  return absl::OkStatus();
}

absl::Status LogitEditor::Edit(std::span<const LogitHistory* const> histories,
                               TensorView logits,
                               Arena& arena) const {
  const ArenaScope scope(arena);
  DS_RETURN_IF_ERROR(Penalize(histories, logits, arena));
  return Mask(histories, logits, arena);
}

}  // namespace deltaserve
