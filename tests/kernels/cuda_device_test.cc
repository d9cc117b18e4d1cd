// What a host must have, in words; and the device itself where there is one.

#include "kernels/cuda/cuda_device.h"

#include <cstring>
#include <thread>

#include "gmock/gmock.h"
#include "kernels/cuda/expert_weights.h"
#include "kernels/cuda/host_requirements.h"
#include "kernels/cuda/linear.h"
#include "tests/kernels/op_test.h"

namespace deltaserve::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(CudaHostTest, AHostThatLacksSomethingIsToldWhat) {
  const struct {
    HostFacts host;
    int ordinal;
    std::string words;
  } cases[] = {
      {{13000, 0, 0}, 0, "has no NVIDIA driver; install one for CUDA 13.0 or later"},
      {{13000, 12080, 4}, 0, "driver runs CUDA up to 12.8 and this build needs 13.0"},
      {{13020, 13000, 0}, 0, "no GPU that this process may use"},
      {{13000, 13010, 2},
       2,
       "needs GPU 2, counted from 0, and this process may use 2: let each see all"},
      {{13000, 13010, 1}, 1, "CUDA_VISIBLE_DEVICES, or a launcher's --gpus-per-task, may hide"},
      {{13000, 13010, 1},
       1,
       "start as many ranks there as it has GPUs, or share them with --ranks-per"},
  };
  for (const auto& c : cases) {
    const absl::Status status = CheckHost(c.host, c.ordinal);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.words));
  }
}

TEST(CudaHostTest, AHostThatHasAllPasses) {
  EXPECT_TRUE(CheckHost({13000, 13000, 1}, 0).ok());
  EXPECT_TRUE(CheckHost({13020, 13000, 8}, 7).ok());  // an older minor version runs it too
  EXPECT_TRUE(CheckHost({12080, 13000, 1}, 0).ok());
}

TEST(CudaHostTest, OnlyTheComputeCapabilityOfTheKernelsPasses) {
  EXPECT_TRUE(CheckGpu({"NVIDIA H200", 9, 0}, 3).ok());
  for (const auto& [major, minor] : {std::pair{8, 0}, std::pair{9, 1}, std::pair{10, 0}}) {
    const absl::Status status = CheckGpu({"NVIDIA X", major, minor}, 3);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("GPU 3 (NVIDIA X)"),
                      HasSubstr("compute capability " + std::to_string(major) + "." +
                                std::to_string(minor))));
  }
}

TEST(CudaHostTest, NoMemoryGivesTheNumbers) {
  const absl::Status status = NoMemory(1, 300, 200, 1000);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("cuda:1: no memory for 300 bytes: 200 of 1000"));
}

TEST(CudaDeviceTest, CopiesAndNamesItself) {
  auto device = CreateCudaDevice(0);
  if (absl::IsUnimplemented(device.status())) {  // a build without CUDA says how to have one
    EXPECT_THAT(std::string(device.status().message()), HasSubstr("cmake --preset cuda"));
    return;
  }
  if (!device.ok()) GTEST_SKIP() << device.status();
  EXPECT_THAT((*device)->Name(), testing::StartsWith("cuda:0 (NVIDIA "));
  Session s(**device);
  const TensorView from = s.Put(std::vector<float>{1, 2, 3});
  const TensorView to = s.NewF32({3});
  (*device)->Zero(to);
  (*device)->Copy(to.Rows(1, 2), from.Rows(0, 2));
  EXPECT_THAT(s.Floats(to), testing::ElementsAre(0, 1, 2));
  EXPECT_EQ((*device)->Allocate(size_t{1} << 50, MemoryKind::kDevice).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(CudaDeviceDeathTest, AnotherThreadMayNotUseIt) {
  const auto device = CreateCudaDevice(0);
  if (absl::IsUnimplemented(device.status())) return;  // a build without CUDA
  if (!device.ok()) GTEST_SKIP() << device.status();
  EXPECT_DEATH(std::thread([&] { (*device)->Synchronize().IgnoreError(); }).join(),
               "cuda:0 .*used by another thread than the one that made it");
}

// The shim is as strict as a GPU may be.
TEST(CudaShimDeviceTest, NothingIsDoneBeforeTheHostWaits) {
  const auto device = CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "this build has nvcc in the shim's place";
  auto memory = device->Allocate(8, MemoryKind::kDevice);
  ASSERT_TRUE(memory.ok());
  const TensorView view = memory->View(DType::kF32, {2});
  std::vector<float> in = {1, 2};
  std::vector<float> out = {-1, -1};
  device->CopyToDevice(view, in.data());
  device->CopyToHost(out.data(), view);
  EXPECT_THAT(out, testing::ElementsAre(-1, -1));
  in = {3, 4};
  ASSERT_TRUE(device->Synchronize().ok());
  EXPECT_THAT(out, testing::ElementsAre(3, 4));
}

#if defined(__SANITIZE_ADDRESS__)
TEST(CudaShimDeviceDeathTest, TheHostMayNotTouchItsMemory) {
  const auto device = CreateShimDevice();
  auto memory = device->Allocate(8, MemoryKind::kDevice);
  ASSERT_TRUE(memory.ok());
  EXPECT_DEATH(*static_cast<volatile int*>(memory->data()) = 1, "use-after-poison");
}
#endif

// A table as it lies is the weight of a head.
TEST(CudaShimDeviceTest, ATableIsALinearWeightWithoutACopy) {
  const auto device = CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "this build has nvcc in the shim's place";
  const std::vector<float> table = {1, 2, 3, 4, 5, 6};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    Session s(*device);
    const auto weight = s.ops().PackTable(s.PutAs(dtype, table, {3, 2}), Precision::kExact).value();
    EXPECT_EQ(weight->bytes(), dtype == DType::kBF16 ? 0U : 12U);
    const TensorView out = s.NewF32({1, 3});
    s.ops().Linear({.x = s.PutAct({10, 1}, {1, 2}), .weight = weight.get(), .out = out}, s.arena());
    EXPECT_THAT(s.Floats(out), testing::ElementsAre(12, 34, 56));
  }
}

TEST(CudaShimDeviceTest, OtherHeadSizesAreRefusedByName) {
  const auto device = CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "this build has nvcc in the shim's place";
  const ModelShape legal = {.head_dim = 256,
                            .rotary_dim = 64,
                            .linear_key_head_dim = 128,
                            .linear_value_head_dim = 128,
                            .linear_conv_kernel_dim = 4};
  EXPECT_TRUE(device->ops().Supports(legal).ok());
  ModelShape shape = legal;
  shape.head_dim = 128;
  EXPECT_THAT(std::string(device->ops().Supports(shape).message()),
              HasSubstr("head_dim is 128; this device has 256 only"));
  for (int64_t ModelShape::*field :
       {&ModelShape::rotary_dim, &ModelShape::linear_key_head_dim,
        &ModelShape::linear_value_head_dim, &ModelShape::linear_conv_kernel_dim}) {
    shape = legal;
    ++(shape.*field);
    EXPECT_TRUE(absl::IsUnimplemented(device->ops().Supports(shape)));
  }
}

TEST(CudaShimDeviceTest, SizesThatKernelsDoNotTakeAreRefusedByName) {
  const auto device = CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "this build has nvcc in the shim's place";
  const ModelShape most = {.head_dim = 256,
                           .rotary_dim = 64,
                           .linear_key_head_dim = 128,
                           .linear_value_head_dim = 128,
                           .linear_conv_kernel_dim = 4,
                           .vocab_size = 1 << 19,
                           .hidden_size = 1 << 14,
                           .num_experts = 512,
                           .top_k = 16,
                           .expert_width = (1 << 16) - 8};
  EXPECT_EQ(device->ops().Supports(most), absl::OkStatus());
  const struct {
    int64_t ModelShape::*field;
    int64_t value;
    std::string words;
  } cases[] = {
      {&ModelShape::vocab_size, 524289, "vocab_size is 524289; this device has up to 524288"},
      {&ModelShape::hidden_size, 16392, "hidden_size is 16392; this device has up to 16384"},
      {&ModelShape::hidden_size, 2052, "hidden_size is 2052; with experts this device has mult"},
      {&ModelShape::num_experts, 513, "num_experts is 513; this device has up to 512"},
      {&ModelShape::top_k, 17, "num_experts_per_tok is 17; this device has up to 16"},
      {&ModelShape::expert_width, 1 << 16, "is 1073741824; this device has up to 1073741823"},
      {&ModelShape::expert_width, 100, "--moe=tp) is 100; this device has multiples of 8 only"},
  };
  for (const auto& c : cases) {
    ModelShape shape = most;
    shape.*c.field = c.value;
    const absl::Status status = device->ops().Supports(shape);
    EXPECT_TRUE(absl::IsUnimplemented(status)) << c.words;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(c.words), HasSubstr("--device=cpu")));
  }
  ModelShape dense = most;  // whose rows need no 16-byte pieces
  dense.hidden_size = 2052;
  dense.num_experts = dense.top_k = dense.expert_width = 0;
  EXPECT_EQ(device->ops().Supports(dense), absl::OkStatus());
}

// A device that is full.
class FullDevice final : public Device {
 public:
  std::string Name() const override { return "full"; }
  bool HostAddressable() const override { return false; }
  const Numerics& numerics() const override { return kBF16Numerics; }
  std::optional<int64_t> FreeMemory() const override { return 0; }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind /*kind*/) override {
    return NoMemory(0, bytes, 0, 0);
  }
  void CopyToDevice(TensorView /*dst*/, const void* /*src*/) override {}
  void CopyToHost(void* dst, TensorView src) override { std::memcpy(dst, src.data(), src.bytes()); }
  void Copy(TensorView /*dst*/, TensorView /*src*/) override {}
  void Zero(TensorView /*dst*/) override {}
  absl::Status Synchronize() override { return absl::OkStatus(); }
  uint64_t Mark() override { return 0; }
  absl::Status Await(uint64_t /*point*/) override { return absl::OkStatus(); }
  Ops& ops() override { DS_CHECK(false) << "has none"; }
};

TEST(CudaPackTest, WeightsThatDoNotFitAreAnErrorThatNamesTheirBytes) {
  if (CreateShimDevice() == nullptr) GTEST_SKIP() << "this build has nvcc in the shim's place";
  FullDevice device;
  std::vector<float> values(size_t{8} * 16);
  const auto expect = [](const absl::Status& status, const std::string& bytes) {
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("no memory for " + bytes + " bytes"));
  };
  expect(PackLinear(device, HostBuffer(values), DType::kF32, 8, 16).status(), "256");
  expect(PackTable(device, TensorView(values.data(), DType::kF32, {8, 16})).status(), "256");
  expect(PackExperts(device, HostBuffer(values), HostBuffer(values), DType::kF32, 1, 8, 8).status(),
         "256");
}

}  // namespace
}  // namespace deltaserve::cuda
