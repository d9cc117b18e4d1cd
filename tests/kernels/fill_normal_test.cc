// FillNormal: the same bits on every device, of every dtype, however the elements lie.

#include "gmock/gmock.h"
#include "kernels/random_weights.h"
#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

class FillNormalTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

// What FillNormalArgs says, one element at a time.
std::vector<float> Expected(const FillNormalArgs& args,
                            DType dtype,
                            int64_t rows,
                            int64_t columns) {
  std::vector<float> values;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const auto element = static_cast<uint64_t>(args.first + r * args.stride + c);
      const float product = args.deviation * StandardNormal(args.key, element);
      const float value = args.scale * (args.mean + product) + args.offset;
      values.push_back(dtype == DType::kBF16 ? ToFloat(ToBFloat16(value)) : value);
    }
  }
  return values;
}

TEST_P(FillNormalTest, DrawsTheElementsOfEveryRow) {
  struct Shape {
    int64_t rows, columns, first, stride;
  };
  // By eights and not; beyond a block of 256 threads; an index that 32 bits do not hold; backwards.
  const std::vector<Shape> shapes = {{1, 1, 5, 0},
                                     {3, 7, 2, 11},
                                     {1, 5000, 1, 0},
                                     {70, 40, 3, 1000},
                                     {2, 24, int64_t{5} << 32, int64_t{3} << 33},
                                     {3, 8, 1000, -100}};
  const std::vector<FillNormalArgs> kinds = {
      {.key = 1},
      {.key = 0x123456789abcdef0u, .mean = 1.0F, .deviation = 0.3F},
      {.key = 7, .mean = 0.1F, .deviation = 0.7F, .scale = 1e-4F, .offset = 0.01F}};
  Session s(*device_);
  for (const Shape& shape : shapes) {
    for (FillNormalArgs args : kinds) {
      args.first = shape.first;
      args.stride = shape.stride;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        args.out = s.New(dtype, {shape.rows, shape.columns});
        s.ops().FillNormal(args);
        ExpectSameBits(s.Floats(args.out), Expected(args, dtype, shape.rows, shape.columns),
                       args.out.ToString());
      }
    }
  }
}

// Part of a tensor that is not aligned, whose neighbours stay.
TEST_P(FillNormalTest, WritesNothingBesideItsElements) {
  Session s(*device_);
  const TensorView all = s.PutAs(DType::kBF16, std::vector<float>(40, 3.0F), {40});
  FillNormalArgs args = {.key = 9, .out = all.Rows(3, 32).Reshape({4, 8})};
  args.stride = 8;
  s.ops().FillNormal(args);
  std::vector<float> expected = Expected(args, DType::kBF16, 4, 8);
  expected.insert(expected.begin(), 3, 3.0F);
  expected.insert(expected.end(), 5, 3.0F);
  ExpectSameBits(s.Floats(all), expected, "all");
}

TEST_P(FillNormalTest, OfNothingDoesNothing) {
  Session s(*device_);
  s.ops().FillNormal({.key = 1, .out = s.NewF32({0, 8})});
  EXPECT_TRUE(device_->Synchronize().ok());
}

// A weight that a device has drawn is packed where it lies.
TEST_P(FillNormalTest, WhatItDrawsIsPackedWithoutTheHost) {
  constexpr int64_t kOut = 5;
  constexpr int64_t kIn = 24;
  constexpr int64_t kExperts = 3;
  Session s(*device_);
  const auto draw = [&](uint64_t key, int64_t count) {
    auto memory = device_->Allocate(static_cast<size_t>(count) * 2, MemoryKind::kDevice);
    s.ops().FillNormal({.key = key, .out = memory->View(DType::kBF16, {1, count})});
    return std::move(*memory);
  };
  const auto on_host = [&](uint64_t key, int64_t count) {
    return HostBuffer(ToBFloat16s(Expected({.key = key}, DType::kBF16, 1, count)));
  };
  const TensorView x = s.PutAct(Expected({.key = 3}, DType::kBF16, 2, kIn), {2, kIn});
  const auto product = [&](Buffer weight) {
    const auto packed = s.ops().PackLinear(std::move(weight), DType::kBF16, kOut, kIn, {}).value();
    const TensorView out = s.NewF32({2, kOut});
    s.ops().Linear({.x = x, .weight = packed.get(), .out = out}, s.arena());
    return s.Floats(out);
  };
  EXPECT_EQ(product(draw(1, kOut * kIn)), product(on_host(1, kOut * kIn)));
  const auto mixed = [&](Buffer gate_up, Buffer down) {
    const auto packed =
        s.ops()
            .PackExperts(std::move(gate_up), std::move(down), DType::kBF16, kExperts, kIn, 8)
            .value();
    ExpertsArgs args;
    args.x = x;
    args.experts = s.Put(std::vector<int32_t>{0, 2, 1, 2}, {2, 2});
    args.weights = s.Put(std::vector<float>{0.5F, 0.5F, 0.25F, 0.75F}, {2, 2});
    args.expert_weights = packed.get();
    args.out = s.NewReduction({2, kIn});
    s.ops().Experts(args, s.arena());
    return s.Floats(args.out);
  };
  const int64_t gate_up = kExperts * 16 * kIn;
  const int64_t down = kExperts * kIn * 8;
  EXPECT_EQ(mixed(draw(1, gate_up), draw(2, down)), mixed(on_host(1, gate_up), on_host(2, down)));
}

INSTANTIATE_TEST_SUITE_P(Devices,
                         FillNormalTest,
                         testing::ValuesIn(AllDevicesAndShim()),
                         [](const auto& device) { return device.param; });

}  // namespace
}  // namespace deltaserve
