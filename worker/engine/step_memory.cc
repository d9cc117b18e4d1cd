#include "worker/engine/step_memory.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<StepMemory>> StepMemory::Create(Device& device, const Sizes& sizes) {
  std::unique_ptr<StepMemory> memory(new StepMemory(device));
  for (Step& step : memory->steps_) {
    DS_ASSIGN_OR_RETURN(step.uploads, device.Allocate(sizes.uploads, MemoryKind::kHost));
    DS_ASSIGN_OR_RETURN(step.results, device.Allocate(sizes.results, MemoryKind::kHost));
  }
  return memory;
}

void StepMemory::NextStep() {
  current_ = 1 - current_;
  steps_[current_].uploaded = 0;
  steps_[current_].fetched = 0;
}

absl::Status StepMemory::ToDevice(TensorView dst, const void* src) {
  Step& step = steps_[current_];
  const size_t capacity = step.uploads.bytes() / kAlignment * kAlignment;
  DS_CHECK_GE(capacity, kAlignment);
  const TensorView bytes(dst.data(), DType::kU8, {static_cast<int64_t>(dst.bytes())});
  for (size_t done = 0; done < dst.bytes();) {
    if (step.uploaded >= capacity) {
      DS_RETURN_IF_ERROR(device_.Synchronize());
      step.uploaded = 0;
    }
    const size_t piece = std::min(dst.bytes() - done, capacity - step.uploaded);
    void* const staged = static_cast<char*>(step.uploads.data()) + step.uploaded;
    std::memcpy(staged, static_cast<const char*>(src) + done, piece);
    device_.CopyToDevice(bytes.Rows(static_cast<int64_t>(done), static_cast<int64_t>(piece)),
                         staged);
    done += piece;
    step.uploaded += (piece + kAlignment - 1) / kAlignment * kAlignment;
  }
  return absl::OkStatus();
}

const void* StepMemory::CopyToHost(TensorView src) {
  Step& step = steps_[current_];
  DS_CHECK_LE(step.fetched + src.bytes(), step.results.bytes());
  void* const target = static_cast<char*>(step.results.data()) + step.fetched;
  if (src.numel() > 0) device_.CopyToHost(target, src);
  step.fetched += (src.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  return target;
}

}  // namespace deltaserve
