#include "kernels/cpu/cpu_device.h"

#include "gmock/gmock.h"
#include "kernels/cpu/isa.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/ops.h"
#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

TEST(CpuDeviceTest, NamesTheFeaturesThatAProcessorLacks) {
  const auto isas = cpu::UsableIsas({.bmi2 = true});
  EXPECT_EQ(isas.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(isas.status().message()), HasSubstr("lacks AVX2 FMA;"));
}

TEST(CpuDeviceTest, TakesTheBestInstructionSetOrTheOneThatIsNamed) {
  const cpu::CpuFeatures v3{.avx2 = true, .fma = true, .bmi2 = true};
  cpu::CpuFeatures v4 = v3;
  v4.avx512 = true;
  cpu::CpuFeatures vnni = v4;
  vnni.vnni512 = true;
  EXPECT_EQ(*cpu::ChooseIsa("auto", v3), cpu::CpuIsa::kX86V3);
  EXPECT_EQ(*cpu::ChooseIsa("auto", v4), cpu::CpuIsa::kX86V4);
  EXPECT_EQ(*cpu::ChooseIsa("auto", vnni), cpu::CpuIsa::kX86V4Vnni);
  EXPECT_EQ(*cpu::ChooseIsa("x86-64-v3", vnni), cpu::CpuIsa::kX86V3);
  EXPECT_EQ(*cpu::ChooseIsa("x86-64-v4", vnni), cpu::CpuIsa::kX86V4);
  EXPECT_EQ(*cpu::ChooseIsa("auto", {.arm = true}), cpu::CpuIsa::kArmV8);
  const auto refused = cpu::ChooseIsa("x86-64-v4", v3);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("--cpu-isa is x86-64-v4; this processor can take auto, x86-64-v3"));
}

TEST(CpuDeviceTest, RefusesNoThreads) {
  const auto device = cpu::CreateCpuDevice({.num_threads = 0});
  EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("threads is 0"));
}

TEST(CpuDeviceTest, SaysHowManyBytesItCouldNotAllocate) {
  const auto cpu = MakeCpu(1);
  const auto buffer = cpu->Allocate(size_t{1} << 63, MemoryKind::kDevice);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(buffer.status().message()), HasSubstr("9223372036854775808 bytes"));
}

TEST(CpuDeviceTest, CopiesAndZeroes) {
  const auto cpu = MakeCpu(1);
  Session s(*cpu);
  const TensorView a = s.Put(std::vector<float>{1, 2, 3});
  const TensorView b = s.NewF32({3});
  cpu->Copy(b, a);
  cpu->Zero(a);
  EXPECT_THAT(s.Floats(a), testing::ElementsAre(0, 0, 0));
  EXPECT_THAT(s.Floats(b), testing::ElementsAre(1, 2, 3));
  EXPECT_TRUE(cpu->HostAddressable());
}

constexpr ModelShape kPublished{.head_dim = 256,
                                .rotary_dim = 64,
                                .linear_key_head_dim = 128,
                                .linear_value_head_dim = 128,
                                .linear_conv_kernel_dim = 4};

TEST(CpuDeviceTest, SupportsPublishedAndOddSizes) {
  const auto cpu = MakeCpu(1);
  EXPECT_TRUE(cpu->ops().Supports(kPublished).ok());
  EXPECT_TRUE(cpu->ops()
                  .Supports({.head_dim = 7,
                             .rotary_dim = 2,
                             .linear_key_head_dim = 5,
                             .linear_value_head_dim = 3,
                             .linear_conv_kernel_dim = 1})
                  .ok());
}

TEST(CpuDeviceTest, RefusesSizesThatItLacksByName) {
  const auto cpu = MakeCpu(1);
  const auto message = [&](ModelShape shape) {
    const auto status = cpu->ops().Supports(shape);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    return std::string(status.message());
  };
  ModelShape shape = kPublished;
  shape.linear_conv_kernel_dim = 9;
  EXPECT_THAT(message(shape), HasSubstr("linear_conv_kernel_dim is 9; this device has 1 to 8"));
  shape = kPublished;
  shape.rotary_dim = 63;
  EXPECT_THAT(message(shape), HasSubstr("rotary dimensions is 63; this device has even numbers"));
  shape.rotary_dim = 258;
  EXPECT_THAT(message(shape), HasSubstr("from 0 to 256"));
  shape = kPublished;
  shape.linear_value_head_dim = 0;
  EXPECT_THAT(message(shape), HasSubstr("linear_value_head_dim is 0"));
}

TEST(CpuDeviceTest, RefusesSumsOfBytesThatAreTooLong) {
  ModelShape shape = kPublished;
  shape.quantized_depth = (1 << 16) + 1;
  EXPECT_TRUE(MakeCpu(1)->ops().Supports(shape).ok());
  const auto quantised = MakeCpu(1, "auto", Quantization::kInt8);
  EXPECT_THAT(std::string(quantised->ops().Supports(shape).message()),
              HasSubstr("in 8 bits is 65537; this device has up to 65536"));
  shape.quantized_depth = 1 << 16;
  EXPECT_TRUE(quantised->ops().Supports(shape).ok());
}

TEST(CudaDeviceTest, ABuildWithoutItNamesTheRemedy) {
  const auto device = cuda::CreateCudaDevice(1);
  if (device.status().code() != absl::StatusCode::kUnimplemented) GTEST_SKIP() << "a CUDA build";
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("--device=cuda:1"));
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("--device=cpu"));
}

}  // namespace
}  // namespace deltaserve
