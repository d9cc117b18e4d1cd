#pragma once

// What a communicator must do with tensors that the host cannot reach. Called by all ranks at once.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "tests/worker/comm/collective_checks.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

template <typename T>
Buffer OnDevice(Device& device, const std::vector<T>& values) {
  Buffer memory = device.Allocate(values.size() * sizeof(T), MemoryKind::kDevice).value();
  device.CopyToDevice(memory.View(DTypeOf<T>::value, {static_cast<int64_t>(values.size())}),
                      values.data());
  EXPECT_TRUE(device.Synchronize().ok());
  return memory;
}

template <typename T>
std::vector<T> OnHost(Device& device, TensorView tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.numel()));
  device.CopyToHost(values.data(), tensor);
  EXPECT_TRUE(device.Synchronize().ok());
  return values;
}

// What a rank brings and what the sum is: of f32 the bits of the sum in rank order, of bf16 of that
// sum, made in f32 and rounded once.
inline float PartOf(int rank, size_t index, float) { return RankValue(rank, index); }
inline BFloat16 PartOf(int rank, size_t index, BFloat16) {
  return ToBFloat16(RankValue(rank, index));
}
inline float SumOf(int size, size_t index, float) { return SerialSum(size, index); }
inline BFloat16 SumOf(int size, size_t index, BFloat16) {
  float sum = ToFloat(PartOf(0, index, BFloat16()));
  for (int rank = 1; rank < size; ++rank) sum += ToFloat(PartOf(rank, index, BFloat16()));
  return ToBFloat16(sum);
}

template <typename T>
void CheckStagedSums(Communicator& communicator, Device& device) {
  const std::vector<size_t> lengths = {1, 17, 4099, 20011};
  Buffer exchange = communicator.AllocateExchange(lengths.back() * sizeof(T)).value();
  for (const size_t length : lengths) {
    std::vector<T> mine(length);
    std::vector<T> expected(length);
    for (size_t i = 0; i < length; ++i) {
      mine[i] = PartOf(communicator.rank(), i, T());
      expected[i] = SumOf(communicator.size(), i, T());
    }
    const TensorView view = exchange.View(DTypeOf<T>::value, {static_cast<int64_t>(length)});
    device.CopyToDevice(view, mine.data());
    communicator.AllReduceSum(view);
    const std::vector<T> sums = OnHost<T>(device, view);
    EXPECT_EQ(std::memcmp(sums.data(), expected.data(), length * sizeof(T)), 0) << length;
  }
}

// One call after another, so that each finds in pinned memory what the one before has left there.
inline void CheckStagedGathers(Communicator& communicator, Device& device) {
  const int size = communicator.size();
  for (const int64_t length : {int64_t{5000}, int64_t{3}, int64_t{70001}}) {
    const auto value = [&](int rank, size_t i) {
      return rank * 1000003 + static_cast<int32_t>(i) + static_cast<int32_t>(length);
    };
    std::vector<int32_t> mine(static_cast<size_t>(length));
    for (size_t i = 0; i < mine.size(); ++i) mine[i] = value(communicator.rank(), i);
    std::vector<int32_t> all;
    for (int rank = 0; rank < size; ++rank) {
      for (size_t i = 0; i < mine.size(); ++i) all.push_back(value(rank, i));
    }
    const Buffer in = OnDevice(device, mine);
    const Buffer out = OnDevice(device, std::vector<int32_t>(all.size(), -1));
    const TensorView in_view = in.View(DType::kI32, {length});
    const TensorView out_view = out.View(DType::kI32, {size, length});
    communicator.AllGather(in_view, out_view);
    communicator.Broadcast(in_view, size - 1);
    EXPECT_TRUE(OnHost<int32_t>(device, out_view) == all) << "AllGather of " << length;
    for (int root = 0; root < size; ++root) {
      device.Zero(out_view);
      const bool is_root = communicator.rank() == root;
      device.CopyToDevice(in_view, mine.data());
      communicator.Gather(in_view, is_root ? out_view : TensorView(), root);
      communicator.Broadcast(in_view, root);
      const std::vector<int32_t> gathered = OnHost<int32_t>(device, out_view);
      EXPECT_TRUE(gathered == (is_root ? all : std::vector<int32_t>(all.size(), 0)))
          << "Gather of " << length << " to " << root;
      const auto first = all.begin() + root * length;
      EXPECT_TRUE(OnHost<int32_t>(device, in_view) == std::vector<int32_t>(first, first + length))
          << "Broadcast of " << length << " from " << root;
    }
  }
}

// residual += sum of partials, out = norm of it: the same bits as the sum and AddRmsNorm. T: the
// device's dtype of reductions and of activations.
template <typename T>
void CheckStagedReduceAddNorm(Communicator& communicator, Device& device) {
  constexpr int64_t kRows = 5;
  constexpr int64_t kHidden = 96;
  constexpr size_t kCount = kRows * kHidden;
  std::vector<T> mine(kCount);
  std::vector<T> sum(kCount);
  std::vector<float> residual(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    mine[i] = PartOf(communicator.rank(), i, T());
    sum[i] = SumOf(communicator.size(), i, T());
    residual[i] = RankValue(99, i);
  }
  Buffer exchange = communicator.AllocateExchange(kCount * sizeof(T)).value();
  const Buffer sums = OnDevice(device, sum);
  const Buffer weight = OnDevice(device, std::vector<float>(kHidden, 1.0F));
  const TensorView weight_view = weight.View(DType::kF32, {kHidden});
  const auto view = [](const Buffer& buffer) {
    return buffer.View(DTypeOf<T>::value, {kRows, kHidden});
  };
  std::vector<std::string> results;
  for (const bool apart : {true, false}) {
    const Buffer residuals = OnDevice(device, residual);
    const TensorView residual_view = residuals.View(DType::kF32, {kRows, kHidden});
    const Buffer out = OnDevice(device, std::vector<T>(kCount));
    if (apart) {
      device.ops().AddRmsNorm({.delta = view(sums),
                               .residual = residual_view,
                               .weight = weight_view,
                               .eps = 1e-6F,
                               .out = view(out)});
    } else {
      device.CopyToDevice(view(exchange), mine.data());
      communicator.ReduceAddNorm({.partial = view(exchange),
                                  .residual = residual_view,
                                  .weight = weight_view,
                                  .eps = 1e-6F,
                                  .out = view(out)});
    }
    const std::vector<T> normed = OnHost<T>(device, view(out));
    const std::vector<float> added = OnHost<float>(device, residual_view);
    results.emplace_back(reinterpret_cast<const char*>(normed.data()), kCount * sizeof(T));
    results.back().append(reinterpret_cast<const char*>(added.data()), kCount * sizeof(float));
  }
  EXPECT_TRUE(results[0] == results[1]);
}

// All of it, on a device that reduces in T.
template <typename T>
void CheckStagedCollectives(Communicator& communicator, Device& device) {
  CheckStagedSums<T>(communicator, device);
  CheckStagedGathers(communicator, device);
  CheckStagedReduceAddNorm<T>(communicator, device);
}

}  // namespace deltaserve
