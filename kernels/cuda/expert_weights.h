#pragma once

// Weights of experts in the memory of the device.

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/ops.h"

namespace deltaserve {
class Device;
}

namespace deltaserve::cuda {

// hidden and width are multiples of it: products read rows of 16-byte pieces.
inline constexpr int64_t kExpertUnit = 8;

// bf16 as checkpoints have them: gate_up [num_experts, 2 width, hidden], gate rows first; down
// [num_experts, hidden, width].
class CudaExpertWeights final : public ExpertWeights {
 public:
  CudaExpertWeights(Buffer gate_up, Buffer down, int64_t num_experts, int64_t hidden, int64_t width)
      : gate_up_(std::move(gate_up)),
        down_(std::move(down)),
        num_experts_(num_experts),
        hidden_(hidden),
        width_(width) {}

  int64_t num_experts() const override { return num_experts_; }
  size_t bytes() const override { return gate_up_.bytes() + down_.bytes(); }
  int64_t hidden() const { return hidden_; }
  int64_t width() const { return width_; }
  const void* gate_up() const { return gate_up_.data(); }
  const void* down() const { return down_.data(); }

 private:
  Buffer gate_up_;
  Buffer down_;
  int64_t num_experts_;
  int64_t hidden_;
  int64_t width_;
};

// See Ops::PackExperts. f32 is rounded to bf16; what lies in the memory of the device is taken
// over. hidden and width are multiples of kExpertUnit. Waits until the device has its copies;
// errors are those of `device`.
absl::StatusOr<std::unique_ptr<ExpertWeights>> PackExperts(Device& device,
                                                           Buffer gate_up,
                                                           Buffer down,
                                                           DType dtype,
                                                           int64_t num_experts,
                                                           int64_t hidden,
                                                           int64_t width);

}  // namespace deltaserve::cuda
