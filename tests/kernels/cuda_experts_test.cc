// What CUDA's experts promise beyond agreeing with the reference, over the host shim.

#include "gmock/gmock.h"
#include "tests/kernels/batch_test.h"

namespace deltaserve {
namespace {

struct Sizes {
  int64_t rows;
  int64_t hidden;
  int64_t width;
  int64_t num_experts;
  int64_t top_k;
};

std::unique_ptr<ExpertWeights> Pack(Device& device, const Sizes& s) {
  Rng rng(97);
  const auto gate_up = ToBFloat16s(Normal(rng, s.num_experts * 2 * s.width * s.hidden, 0.2f));
  const auto down = ToBFloat16s(Normal(rng, s.num_experts * s.hidden * s.width, 0.2f));
  return device.ops()
      .PackExperts(HostBuffer(gate_up), HostBuffer(down), DType::kBF16, s.num_experts, s.hidden,
                   s.width)
      .value();
}

// Routes by random logits and runs the experts: all that the op does on the device.
std::vector<float> RouteAndRun(Session& s, const ExpertWeights& weights, const Sizes& sizes) {
  Rng rng(95);
  RouteExpertsArgs route;
  route.logits =
      s.Put(Normal(rng, sizes.rows * sizes.num_experts, 2.0f), {sizes.rows, sizes.num_experts});
  route.experts = s.NewI32({sizes.rows, sizes.top_k});
  route.weights = s.NewF32({sizes.rows, sizes.top_k});
  s.ops().RouteExperts(route);
  ExpertsArgs args;
  args.x = s.PutAct(Normal(rng, sizes.rows * sizes.hidden), {sizes.rows, sizes.hidden});
  args.experts = route.experts;
  args.weights = route.weights;
  args.expert_weights = &weights;
  args.out = s.NewReduction({sizes.rows, sizes.hidden});
  s.ops().Experts(args, s.arena());
  return s.Floats(args.out);
}

std::vector<float> RouteAndRun(Device& device, const Sizes& sizes) {
  Session s(device);
  return RouteAndRun(s, *Pack(device, sizes), sizes);
}

class CudaExpertsTest : public testing::TestWithParam<cuda::MoeBackend> {
 protected:
  void SetUp() override {
    if (Shim() == nullptr) GTEST_SKIP() << "no shim beside nvcc";
  }
  static std::unique_ptr<Device> Shim(uint64_t seed = 1) {
    return cuda::CreateShimDevice(seed, {.moe = GetParam()});
  }
};

TEST_P(CudaExpertsTest, BitsDoNotDependOnTheOrderOfThreadsAndBlocks) {
  const Sizes few{.rows = 5, .hidden = 48, .width = 24, .num_experts = 8, .top_k = 3};
  const Sizes many{.rows = 370, .hidden = 24, .width = 16, .num_experts = 8, .top_k = 3};
  for (const Sizes& sizes : {few, many}) {
    const auto first = RouteAndRun(*Shim(), sizes);
    for (const uint64_t seed : {2, 3, 4}) {
      ExpectSameBits(RouteAndRun(*Shim(seed), sizes), first, std::to_string(sizes.rows) + " rows");
    }
  }
}

// An arena that was frozen after the most rows and is asked for more ends the test. Numbers of rows
// on both sides of where the way and the tiles change.
TEST_P(CudaExpertsTest, FewerRowsStayWithinTheScratchOfTheMost) {
  const auto device = Shim();
  Session s(*device);
  Sizes sizes{.rows = 130, .hidden = 24, .width = 16, .num_experts = 4, .top_k = 2};
  const auto weights = Pack(*device, sizes);
  const auto most = RouteAndRun(s, *weights, sizes);
  s.arena().Freeze();
  for (const int64_t rows : {130, 129, 128, 127, 60, 17, 16, 1}) {
    sizes.rows = rows;
    EXPECT_EQ(RouteAndRun(s, *weights, sizes).size(), static_cast<size_t>(rows * sizes.hidden));
    EXPECT_EQ(s.arena().used_bytes(), 0U);
  }
  sizes.rows = 130;
  ExpectSameBits(RouteAndRun(s, *weights, sizes), most, "after fewer rows");
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         CudaExpertsTest,
                         testing::Values(cuda::MoeBackend::kNative, cuda::MoeBackend::kCutlass));

TEST(CudaExpertsDeathTest, RefusesSizesByName) {
  const auto device = cuda::CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "no shim beside nvcc";
  EXPECT_DEATH(Pack(*device, {.rows = 1, .hidden = 20, .width = 8, .num_experts = 1, .top_k = 1}),
               "hidden size 20, width of an expert 8: on CUDA both are multiples of 8");
  Session s(*device);
  EXPECT_DEATH(s.ops().RouteExperts({.logits = s.NewF32({1, 600}),
                                     .normalize = true,
                                     .experts = s.NewI32({1, 2}),
                                     .weights = s.NewF32({1, 2})}),
               "2 of 600 experts; up to 16 of up to 512 can be chosen");
}

}  // namespace
}  // namespace deltaserve
