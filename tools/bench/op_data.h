#pragma once

// OpData: tensors, weights and rows with made-up values for ops to run on.

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"

namespace deltaserve::bench {

// A sequence of a batch: which slot and state, and its rows.
struct OpSequence {
  int32_t slot = 0;
  int32_t state = 0;
  int64_t position = 0;  // of the first row
  int64_t rows = 1;
};

// Main thread. Owns all that it gives out. Memory that the device does not have is a failed check:
// the tool asks how much there is before.
class OpData {
 public:
  explicit OpData(Device& device) : device_(device), arena_([this](size_t n) { return Get(n); }) {}

  Device& device() { return device_; }
  Ops& ops() { return device_.ops(); }
  const Numerics& numerics() const { return device_.numerics(); }
  // Bytes of an element.
  double act_bytes() const { return static_cast<double>(DTypeSize(numerics().activation)); }
  double kv_bytes() const { return static_cast<double>(DTypeSize(numerics().kv)); }
  Arena& arena() { return arena_; }

  // Even over [middle - deviation, middle + deviation), in f32, bf16 or the device's dtype of a
  // role.
  TensorView Values(DType dtype,
                    std::initializer_list<int64_t> shape,
                    float middle = 0,
                    float deviation = 1);
  TensorView Floats(std::initializer_list<int64_t> shape, float middle = 0, float deviation = 1) {
    return Values(DType::kF32, shape, middle, deviation);
  }
  TensorView Act(std::initializer_list<int64_t> shape) {
    return Values(numerics().activation, shape);
  }
  TensorView Kv(std::initializer_list<int64_t> shape) { return Values(numerics().kv, shape); }
  TensorView Reduction(std::initializer_list<int64_t> shape) {
    return Values(numerics().reduction, shape);
  }
  TensorView Ints(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape);
  // Uninitialised.
  TensorView Empty(DType dtype, std::initializer_list<int64_t> shape);
  TensorView EmptyAct(std::initializer_list<int64_t> shape) {
    return Empty(numerics().activation, shape);
  }

  // bf16 of a size that keeps outputs near inputs'.
  const LinearWeight& Linear(int64_t out_features, int64_t in_features);
  const ExpertWeights& Experts(int64_t num_experts, int64_t hidden, int64_t width);

  // Decodes first. `block_table`: i32 [slots, blocks], or a default-constructed view where no op
  // looks at keys and values.
  const RowBatch& Rows(const std::vector<OpSequence>& sequences,
                       int64_t num_decode,
                       TensorView block_table = {});

 private:
  Buffer Get(size_t bytes);
  TensorView Keep(Buffer buffer, DType dtype, std::initializer_list<int64_t> shape);
  Buffer BFloats(int64_t count, int64_t in_features);

  Device& device_;
  Arena arena_;
  std::deque<Buffer> buffers_;
  std::deque<RowBatch> batches_;
  std::vector<std::unique_ptr<LinearWeight>> linear_;
  std::vector<std::unique_ptr<ExpertWeights>> experts_;
};

}  // namespace deltaserve::bench
