#pragma once

// What every communicator must do, whatever it runs over. Called by all ranks at once.

#include <bit>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// Element `index` of rank `rank`: of magnitudes so different that another order of additions gives
// other bits (see OrderMatters below).
inline float RankValue(int rank, size_t index) {
  uint64_t x = (static_cast<uint64_t>(rank) + 1) * 0x9e3779b97f4a7c15u + index;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  x ^= x >> 31;
  const uint32_t exponent = 117u + static_cast<uint32_t>((x >> 32) % 21u);
  const uint32_t sign = static_cast<uint32_t>(x >> 63) << 31;
  return std::bit_cast<float>(sign | exponent << 23 | (static_cast<uint32_t>(x) & 0x7fffffu));
}

// ((x0 + x1) + x2) + ..., or in the opposite order.
inline float SerialSum(int size, size_t index, bool reversed = false) {
  float sum = RankValue(reversed ? size - 1 : 0, index);
  for (int i = 1; i < size; ++i) sum += RankValue(reversed ? size - 1 - i : i, index);
  return sum;
}

// Shapes: nothing, one, odd, around vector and slice borders, around the change of path of the MPI
// communicator (64 KB of parts: 16384 floats over all ranks), large.
inline const std::vector<size_t> kSumLengths = {
    0,    1,    2,    3,    15,   16,   17,    63,    64,    65,     127,    1000,
    4096, 4097, 5461, 5462, 8192, 8193, 16384, 16385, 65536, 100003, 1048583};

// The last length is the largest.
inline void CheckAllReduceSum(Communicator& communicator,
                              const std::vector<size_t>& lengths = kSumLengths) {
  Buffer exchange = communicator.AllocateExchange(lengths.back() * sizeof(float)).value();
  for (const size_t length : lengths) {
    const TensorView tensor = exchange.View(DType::kF32, {static_cast<int64_t>(length)});
    for (size_t i = 0; i < length; ++i) {
      tensor.as<float>()[i] = RankValue(communicator.rank(), i);
    }
    communicator.AllReduceSum(tensor);
    size_t num_wrong = 0;
    for (size_t i = 0; i < length; ++i) {
      const float expected = SerialSum(communicator.size(), i);
      num_wrong +=
          std::bit_cast<uint32_t>(expected) != std::bit_cast<uint32_t>(tensor.as<float>()[i]);
    }
    EXPECT_EQ(num_wrong, 0u) << "of " << length;
  }
}

// A row gives the same bits alone and among others, on whichever path its company makes it take.
inline void CheckRowsDoNotDependOnCompany(Communicator& communicator) {
  constexpr int64_t kWidth = 257;
  constexpr int64_t kRows = 300;
  Buffer exchange = communicator.AllocateExchange(kRows * kWidth * sizeof(float)).value();
  const TensorView all = exchange.View(DType::kF32, {kRows, kWidth});
  const auto fill = [&](int64_t row, float* out) {
    for (int64_t i = 0; i < kWidth; ++i) {
      out[i] = RankValue(communicator.rank(), static_cast<size_t>(row * kWidth + i));
    }
  };
  for (int64_t row = 0; row < kRows; ++row) fill(row, all.Row(row).as<float>());
  communicator.AllReduceSum(all);
  const std::vector<float> together(all.as<float>(), all.as<float>() + all.numel());
  for (const int64_t row : {int64_t{0}, int64_t{1}, int64_t{150}, kRows - 1}) {
    const TensorView alone = exchange.View(DType::kF32, {kWidth});
    fill(row, alone.as<float>());
    communicator.AllReduceSum(alone);
    for (int64_t i = 0; i < kWidth; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(alone.as<float>()[i]),
                std::bit_cast<uint32_t>(together[static_cast<size_t>(row * kWidth + i)]))
          << "row " << row << ", element " << i;
    }
  }
}

inline void CheckGatherAndBroadcast(Communicator& communicator) {
  const int size = communicator.size();
  for (const int64_t length : {int64_t{0}, int64_t{1}, int64_t{33}, int64_t{70001}}) {
    const auto count = static_cast<size_t>(length);
    std::vector<int32_t> in(count);
    for (size_t i = 0; i < count; ++i) {
      in[i] = communicator.rank() * 1000003 + static_cast<int32_t>(i);
    }
    const auto check = [&](const std::vector<int32_t>& out, const char* call) {
      size_t num_wrong = 0;
      size_t at = 0;
      for (int rank = 0; at < out.size(); ++rank) {
        for (size_t i = 0; i < count; ++i, ++at) {
          num_wrong += out[at] != rank * 1000003 + static_cast<int32_t>(i);
        }
      }
      EXPECT_EQ(num_wrong, 0u) << call << " of " << length;
    };
    std::vector<int32_t> out(count * static_cast<size_t>(size), -1);
    const TensorView in_view(in.data(), DType::kI32, {length});
    communicator.AllGather(in_view, TensorView(out.data(), DType::kI32, {size, length}));
    check(out, "AllGather");

    for (int root = 0; root < size; ++root) {
      const bool mine = communicator.rank() == root;
      std::vector<int32_t> gathered(mine ? out.size() : 0, -1);
      const TensorView to =
          mine ? TensorView(gathered.data(), DType::kI32, {size, length}) : TensorView();
      communicator.Gather(in_view, to, root);
      check(gathered, "Gather");

      std::vector<int32_t> sent = in;
      communicator.Broadcast(TensorView(sent.data(), DType::kI32, {length}), root);
      for (size_t i = 0; i < count; ++i) {
        ASSERT_EQ(sent[i], root * 1000003 + static_cast<int32_t>(i)) << "Broadcast from " << root;
      }
    }
  }
}

// residual += sum of partials, out = norm of it: the same bits as the two calls apart.
inline void CheckReduceAddNorm(Communicator& communicator,
                               Device& device,
                               int64_t rows,
                               int64_t hidden) {
  SCOPED_TRACE(testing::Message() << rows << " rows of " << hidden);
  const auto count = static_cast<size_t>(rows * hidden);
  Buffer exchange = communicator.AllocateExchange(count * sizeof(float)).value();
  const TensorView partial = exchange.View(DType::kF32, {rows, hidden});
  std::vector<float> sum(count), residual(count), weight(static_cast<size_t>(hidden)), out(count);
  for (size_t i = 0; i < count; ++i) {
    partial.as<float>()[i] = RankValue(communicator.rank(), i);
    sum[i] = SerialSum(communicator.size(), i);
    residual[i] = RankValue(99, i);
  }
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = 1.0f + static_cast<float>(i) / 64.0f;
  std::vector<float> expected_residual = residual, expected_out(count);
  const auto view = [&](std::vector<float>& values) {
    return TensorView(values.data(), DType::kF32, {rows, hidden});
  };
  const TensorView weight_view(weight.data(), DType::kF32, {hidden});
  device.ops().AddRmsNorm({.delta = view(sum),
                           .residual = view(expected_residual),
                           .weight = weight_view,
                           .eps = 1e-6f,
                           .out = view(expected_out)});
  communicator.ReduceAddNorm({.partial = partial,
                              .residual = view(residual),
                              .weight = weight_view,
                              .eps = 1e-6f,
                              .out = view(out)});
  EXPECT_TRUE(residual == expected_residual);
  EXPECT_TRUE(out == expected_out);
}

// No row; one piece of the shared communicator added in one shot or by slices, whole vectors and
// not, one row too many for a piece (512 KB).
inline void CheckReduceAddNorm(Communicator& communicator, Device& device) {
  CheckReduceAddNorm(communicator, device, 0, 96);
  CheckReduceAddNorm(communicator, device, 5, 96);
  CheckReduceAddNorm(communicator, device, 33, 1001);
  CheckReduceAddNorm(communicator, device, 128, 1024);
  CheckReduceAddNorm(communicator, device, 129, 1024);
}

}  // namespace deltaserve
