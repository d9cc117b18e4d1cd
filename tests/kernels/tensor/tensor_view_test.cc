#include "kernels/tensor/tensor_view.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

TEST(TensorViewTest, KnowsShapeElementsAndBytes) {
  float data[24];
  const TensorView view(data, DType::kF32, {2, 3, 4});
  EXPECT_EQ(view.rank(), 3);
  EXPECT_EQ(view.dim(2), 4);
  EXPECT_EQ(view.numel(), 24);
  EXPECT_EQ(view.bytes(), 96u);
  EXPECT_EQ(view.ToString(), "F32[2, 3, 4]");
}

TEST(TensorViewTest, IsEmptyByDefaultAndWithAZeroDimension) {
  EXPECT_EQ(TensorView().numel(), 0);
  EXPECT_EQ(TensorView(nullptr, DType::kBF16, {0, 7}).bytes(), 0u);
  EXPECT_EQ(TensorView(nullptr, DType::kBF16, {0, 7}).Rows(0, 0).numel(), 0);
}

TEST(TensorViewTest, RowsStartAtTheirBytes) {
  uint16_t data[30];
  const TensorView view(data, DType::kBF16, {5, 2, 3});
  const TensorView rows = view.Rows(2, 3);
  EXPECT_EQ(rows.data(), data + 12);
  EXPECT_EQ(rows.ToString(), "BF16[3, 2, 3]");
  const TensorView row = view.Row(4);
  EXPECT_EQ(row.data(), data + 24);
  EXPECT_EQ(row.ToString(), "BF16[2, 3]");
}

TEST(TensorViewTest, ReshapeKeepsElements) {
  int32_t data[12];
  EXPECT_EQ(TensorView(data, DType::kI32, {3, 4}).Reshape({2, 6}).ToString(), "I32[2, 6]");
}

TEST(TensorViewDeathTest, RefusesWhatDoesNotFit) {
  float data[12];
  const TensorView view(data, DType::kF32, {3, 4});
  EXPECT_DEATH(view.Rows(2, 2), "rows \\[2, 4\\) of F32\\[3, 4\\]");
  EXPECT_DEATH(view.Reshape({5}), "F32\\[3, 4\\] to F32\\[5\\]");
  EXPECT_DEATH(view.as<int32_t>(), "F32\\[3, 4\\]");
  EXPECT_DEATH(view.dim(2), "dimension 2");
  EXPECT_DEATH(TensorView(data, DType::kF32, {3, -4}), "check failed");
}

TEST(BufferTest, FreesOnceAndMoves) {
  int frees = 0;
  char byte = 0;
  {
    Buffer a(&byte, 1, [&frees](void*) { ++frees; });
    Buffer b = std::move(a);
    EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): the moved-from state is the subject
    EXPECT_EQ(b.data(), &byte);
    Buffer c;
    c = std::move(b);
    EXPECT_EQ(frees, 0);
  }
  EXPECT_EQ(frees, 1);
}

TEST(BufferTest, KnowsWhetherTheHostReachesIt) {
  char byte = 0;
  Buffer there(&byte, 1, nullptr, false);
  Buffer moved = std::move(there);
  EXPECT_FALSE(moved.host_addressable());
  moved = Buffer::AllocateHost(1);
  EXPECT_TRUE(moved.host_addressable());
}

TEST(BufferTest, AssignmentFreesWhatWasHeld) {
  int first = 0;
  int second = 0;
  char bytes[2];
  Buffer a(bytes, 1, [&first](void*) { ++first; });
  a = Buffer(bytes + 1, 1, [&second](void*) { ++second; });
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
}

TEST(BufferTest, HostMemoryIsAlignedAndNothingForNoBytes) {
  for (const size_t bytes : {size_t{1}, size_t{65}, size_t{3} << 20}) {
    const Buffer buffer = Buffer::AllocateHost(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u) << bytes;
    EXPECT_EQ(buffer.bytes(), bytes);
  }
  EXPECT_TRUE(Buffer::AllocateHost(0).empty());
}

TEST(BufferDeathTest, RefusesAViewLargerThanItself) {
  const Buffer buffer = Buffer::AllocateHost(15);
  EXPECT_DEATH(buffer.View(DType::kF32, {4}), "16 vs 15");
}

TEST(BFloat16Test, WidensExactlyAndComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BFloat16 x{static_cast<uint16_t>(bits)};
    const float wide = ToFloat(x);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToBFloat16(wide))));
    } else {
      EXPECT_EQ(ToBFloat16(wide).bits, x.bits);
    }
  }
}

TEST(BFloat16Test, RoundsToNearestEven) {
  const auto round = [](uint32_t bits) { return ToBFloat16(std::bit_cast<float>(bits)).bits; };
  EXPECT_EQ(round(0x3F808000), 0x3F80);  // half way, down to even
  EXPECT_EQ(round(0x3F818000), 0x3F82);  // half way, up to even
  EXPECT_EQ(round(0x3F808001), 0x3F81);  // above half
  EXPECT_EQ(round(0x3F807FFF), 0x3F80);  // below half
  EXPECT_EQ(round(0x7F7FFFFF), 0x7F80);  // the largest float becomes infinity
  EXPECT_EQ(round(0x7F800001) & 0x7F80, 0x7F80);
  EXPECT_NE(round(0x7F800001) & 0x7F, 0);  // NaN with only low bits stays NaN
}

}  // namespace
}  // namespace deltaserve
