#include "worker/engine/logit_editor.h"

#include <algorithm>
#include <type_traits>

#include "kernels/base/status_macros.h"
#include "kernels/ops.h"

namespace deltaserve {

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
  const auto put = [&](const std::vector<float>& values) {
    const TensorView view = arena.Allocate(DType::kF32, {rows});
    device_.CopyToDevice(view, values.data());
    return view;
  };
  PenalizeArgs args;
  args.logits = logits;
  args.repetition = put(repetition);
  args.frequency = put(frequency);
  args.presence = put(presence);
  const TensorView memory = arena.Allocate(DType::kI32, {5, kEntries});
  const auto total = static_cast<int64_t>(entries.id.size());
  for (int64_t begin = 0; begin < total; begin += kEntries) {
    const int64_t count = std::min(kEntries, total - begin);
    const auto column = [&](int64_t which, const auto& values) {
      using T = typename std::remove_cvref_t<decltype(values)>::value_type;
      const TensorView view(memory.Row(which).data(), DTypeOf<T>::value, {count});
      device_.CopyToDevice(view, values.data() + begin);
      return view;
    };
    args.row = column(0, entries.row);
    args.id = column(1, entries.id);
    args.seen = column(2, entries.seen);
    args.count = column(3, entries.count);
    args.bias = column(4, entries.bias);
    device_.ops().Penalize(args);
  }
  return device_.Synchronize();
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
  device_.CopyToDevice(args.row, masked.data());
  device_.CopyToDevice(args.mask, mask.data());
  device_.ops().MaskLogits(args);
  return device_.Synchronize();
}

absl::Status LogitEditor::Edit(std::span<const LogitHistory* const> histories,
                               TensorView logits,
                               Arena& arena) const {
  const ArenaScope scope(arena);
  DS_RETURN_IF_ERROR(Penalize(histories, logits, arena));
  return Mask(histories, logits, arena);
}

}  // namespace deltaserve
