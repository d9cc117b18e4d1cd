#include "kernels/cuda/cuda_options.h"

#include "gtest/gtest.h"

namespace deltaserve::cuda {
namespace {

TEST(CudaOptionsTest, FlagsNameTheKernelsOrAreRefused) {
  const struct {
    BackendFlags flags;
    const char* device;
    const char* text;  // of the device's name, or the refusal
  } cases[] = {{{}, "cpu", ""},
               {{}, "cuda", ""},
               {{.attention = "flashinfer"}, "cuda", ", attention of flashinfer"},
               {{.moe = "cutlass"}, "cuda", ", experts of cutlass"},
               {{"flashinfer", "cutlass"}, "cuda", ", attention of flashinfer, experts of cutlass"},
               {{.attention = "cutlass"},
                "cuda",
                "--attention-backend is cutlass; use native or flashinfer"},
               {{.moe = "triton"}, "cpu", "--moe-backend is triton; use native or cutlass"},
               {{.moe = "cutlass"},
                "cpu",
                "--moe-backend is cutlass: it means nothing with --device cpu; leave it out"}};
  for (const auto& c : cases) {
    const auto options = ReadBackends(c.flags, c.device);
    EXPECT_EQ(options.ok() ? BackendsText(*options) : std::string(options.status().message()),
              c.text);
    EXPECT_TRUE(options.ok() || absl::IsInvalidArgument(options.status()));
  }
}

}  // namespace
}  // namespace deltaserve::cuda
