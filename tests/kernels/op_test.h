#pragma once

// What op tests share: the devices, tensors on a device, and comparisons with a stated tolerance or
// with none. Values are f32 on the host whatever dtype a device's activations have: tests round
// their inputs to it before both devices of a comparison see them, and say two tolerances.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/isa.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/shim/shim_device.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/reference/narrow_device.h"
#include "kernels/reference/reference_device.h"

namespace deltaserve {

// The instruction sets of the CPU that this machine can run, by name.
inline std::vector<std::string> CpuIsas() {
  std::vector<std::string> names;
  const auto isas = cpu::UsableIsas(cpu::DetectCpuFeatures());
  if (!isas.ok()) return names;
  for (const cpu::CpuIsa isa : *isas) {
    names.emplace_back(cpu::CpuIsaName(isa));
  }
  return names;
}

// Such a name as part of the name of a test.
inline std::string TestName(std::string isa) {
  std::replace(isa.begin(), isa.end(), '-', '_');
  return isa;
}

// A CPU device, of the best instruction set unless said.
inline std::unique_ptr<Device> MakeCpu(int num_threads,
                                       const std::string& isa = "auto",
                                       Quantization quantization = Quantization::kNone) {
  auto device =
      cpu::CreateCpuDevice({.num_threads = num_threads, .isa = isa, .quantization = quantization});
  EXPECT_TRUE(device.ok()) << device.status();
  return std::move(*device);
}

// The GPU with the kernels of libraries wherever there are some.
inline absl::StatusOr<std::unique_ptr<Device>> CreateCudaOfLibraries() {
  return cuda::CreateCudaDevice(
      0, {.attention = cuda::AttentionBackend::kFlashInfer, .moe = cuda::MoeBackend::kCutlass});
}

// Devices that are checked against the reference: the CPU alone, with threads and with each of its
// instruction sets; cuda where the build has it, and cuda_libraries; and the reference with its
// activations in bf16, which errs by rounding alone: what is expected of bf16 devices can be met.
inline std::vector<std::string> DevicesUnderTest() {
  std::vector<std::string> names = {"cpu_1_thread"};
  for (const std::string& isa : CpuIsas()) names.push_back(TestName(isa));
  if (!absl::IsUnimplemented(cuda::CreateCudaDevice(0).status())) names.emplace_back("cuda");
  if (!absl::IsUnimplemented(CreateCudaOfLibraries().status())) {
    names.emplace_back("cuda_libraries");
  }
  names.emplace_back("reference_bf16");
  return names;
}

inline std::unique_ptr<Device> CreateShimOfFlashInfer() {
  return cuda::CreateShimDevice(1, {.attention = cuda::AttentionBackend::kFlashInfer});
}

// And the CUDA kernels over the host shim, where this binary has them: for ops that they have.
inline std::vector<std::string> DevicesAndShim() {
  std::vector<std::string> names = DevicesUnderTest();
  if (cuda::CreateShimDevice() != nullptr) names.emplace_back("cuda_shim");
  if (CreateShimOfFlashInfer() != nullptr) names.emplace_back("cuda_shim_flashinfer");
  return names;
}

// And the reference itself.
inline std::vector<std::string> AllDevices() {
  std::vector<std::string> names = DevicesUnderTest();
  names.emplace_back("reference");
  return names;
}
inline std::vector<std::string> AllDevicesAndShim() {
  std::vector<std::string> names = DevicesAndShim();
  names.emplace_back("reference");
  return names;
}

// Null where this machine has no such device.
inline std::unique_ptr<Device> MakeDevice(const std::string& name) {
  if (name == "reference_bf16") {
    return reference::CreateNarrowDevice(reference::CreateReferenceDevice());
  }
  if (name == "reference") return reference::CreateReferenceDevice();
  if (name == "cuda_shim") return cuda::CreateShimDevice();
  if (name == "cuda_shim_cutlass") {
    return cuda::CreateShimDevice(1, {.moe = cuda::MoeBackend::kCutlass});
  }
  if (name == "cuda_shim_flashinfer") return CreateShimOfFlashInfer();
  if (name == "cpu_1_thread") return MakeCpu(1);
  for (const std::string& isa : CpuIsas()) {
    if (name == TestName(isa)) return MakeCpu(3, isa);
  }
  auto device = name == "cuda_libraries" ? CreateCudaOfLibraries() : cuda::CreateCudaDevice(0);
  return device.ok() ? std::move(*device) : nullptr;
}

// For tests of the CPU's own promises, run with each instruction set.
class CpuIsaTest : public testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<Device> MakeCpu(int num_threads) {
    return deltaserve::MakeCpu(num_threads, GetParam());
  }
};

inline std::string IsaOfTest(const testing::TestParamInfo<std::string>& info) {
  return TestName(info.param);
}

inline std::vector<BFloat16> ToBFloat16s(const std::vector<float>& values) {
  std::vector<BFloat16> narrow;
  narrow.reserve(values.size());
  for (const float value : values) narrow.push_back(ToBFloat16(value));
  return narrow;
}

// `values` as a tensor of `dtype` (f32 or bf16) holds them.
inline std::vector<float> Rounded(DType dtype, std::vector<float> values) {
  if (dtype == DType::kBF16) {
    for (float& value : values) value = ToFloat(ToBFloat16(value));
  }
  return values;
}

// So that the device under test and the reference see equal inputs: `inputs` become what `dtype`, a
// role of the device's numerics, can hold.
inline void RoundInputs(DType dtype, std::initializer_list<std::vector<float>*> inputs) {
  for (std::vector<float>* input : inputs) *input = Rounded(dtype, std::move(*input));
}

// A result rounded to bf16 once is off by at most this, relative to itself.
inline constexpr double kBF16Rounding = 1.0 / 256;

// The tolerance of a result of `device`: `f32`, or `bf16` where its activations are.
inline double Tolerance(const Device& device, double f32, double bf16) {
  return device.numerics().activation == DType::kBF16 ? bf16 : f32;
}

// Whether a device has said that it lacks the sizes of a test and which it has: nothing to compare.
inline bool IsRefusedByName(const absl::Status& supports) {
  if (supports.ok()) return false;
  EXPECT_TRUE(absl::IsUnimplemented(supports)) << supports;
  EXPECT_NE(supports.message().find("this device has "), absl::string_view::npos) << supports;
  return true;
}

// Tensors of one run of an op on one device.
class Session {
 public:
  explicit Session(Device& device)
      : device_(device), arena_([&device](size_t bytes) {
          auto buffer = device.Allocate(bytes, MemoryKind::kDevice);
          return std::move(*buffer);
        }) {}

  Ops& ops() { return device_.ops(); }
  const Numerics& numerics() const { return device_.numerics(); }
  Arena& arena() { return arena_; }

  TensorView New(DType dtype, std::initializer_list<int64_t> shape) {
    const TensorView shape_only(nullptr, dtype, shape);
    auto buffer = device_.Allocate(shape_only.bytes(), MemoryKind::kDevice);
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    buffers_.push_back(std::move(*buffer));
    return TensorView(buffers_.back().data(), dtype, shape);
  }
  TensorView NewF32(std::initializer_list<int64_t> shape) { return New(DType::kF32, shape); }
  TensorView NewI32(std::initializer_list<int64_t> shape) { return New(DType::kI32, shape); }
  // In the device's dtype of the role.
  TensorView NewAct(std::initializer_list<int64_t> shape) {
    return New(numerics().activation, shape);
  }
  TensorView NewReduction(std::initializer_list<int64_t> shape) {
    return New(numerics().reduction, shape);
  }

  template <typename T>
  TensorView Put(const std::vector<T>& values, std::initializer_list<int64_t> shape) {
    const TensorView view = New(DTypeOf<T>::value, shape);
    EXPECT_EQ(view.numel(), static_cast<int64_t>(values.size()));
    device_.CopyToDevice(view, values.data());
    EXPECT_TRUE(device_.Synchronize().ok());  // the values may be gone after
    return view;
  }
  template <typename T>
  TensorView Put(const std::vector<T>& values) {
    return Put(values, {static_cast<int64_t>(values.size())});
  }

  // In f32 or rounded to bf16.
  TensorView PutAs(DType dtype,
                   const std::vector<float>& values,
                   std::initializer_list<int64_t> shape) {
    return dtype == DType::kBF16 ? Put(ToBFloat16s(values), shape) : Put(values, shape);
  }
  TensorView PutAct(const std::vector<float>& values, std::initializer_list<int64_t> shape) {
    return PutAs(numerics().activation, values, shape);
  }
  TensorView PutKv(const std::vector<float>& values, std::initializer_list<int64_t> shape) {
    return PutAs(numerics().kv, values, shape);
  }
  TensorView PutReduction(const std::vector<float>& values, std::initializer_list<int64_t> shape) {
    return PutAs(numerics().reduction, values, shape);
  }

  template <typename T>
  std::vector<T> Get(TensorView view) {
    EXPECT_TRUE(device_.Synchronize().ok());
    std::vector<T> values(static_cast<size_t>(view.numel()));
    device_.CopyToHost(values.data(), view);
    EXPECT_TRUE(device_.Synchronize().ok());
    return values;
  }
  // Of an f32 or bf16 tensor.
  std::vector<float> Floats(TensorView view) {
    if (view.dtype() == DType::kF32) return Get<float>(view);
    std::vector<float> wide;
    for (const BFloat16 value : Get<BFloat16>(view)) wide.push_back(ToFloat(value));
    return wide;
  }
  // Leaves in `view` what it would hold, were it of `dtype`.
  void RoundTo(DType dtype, TensorView view) {
    if (dtype == view.dtype() || dtype == DType::kF32) return;
    const auto values = Rounded(dtype, Floats(view));
    device_.CopyToDevice(view, values.data());
    EXPECT_TRUE(device_.Synchronize().ok());
  }

 private:
  Device& device_;
  std::vector<Buffer> buffers_;
  Arena arena_;
};

// A host buffer with the bytes of `values`, for the Pack functions.
template <typename T>
Buffer HostBuffer(const std::vector<T>& values) {
  Buffer buffer = Buffer::AllocateHost(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}

using Rng = std::mt19937;

inline std::vector<float> Normal(Rng& rng, int64_t n, float deviation = 1.0f, float mean = 0.0f) {
  std::normal_distribution<float> distribution(mean, deviation);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = distribution(rng);
  return values;
}

// Part of a row-major matrix: rows [begin, begin + count).
template <typename T>
std::vector<T> RowsOf(const std::vector<T>& matrix, int64_t width, int64_t begin, int64_t count) {
  return std::vector<T>(matrix.begin() + begin * width, matrix.begin() + (begin + count) * width);
}

// |actual - expected| <= tolerance * (1 + |expected|), and no NaN.
inline void ExpectClose(const std::vector<float>& actual,
                        const std::vector<float>& expected,
                        double tolerance,
                        const char* what = "out") {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double worst = -1;
  size_t at = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double e = static_cast<double>(expected[i]);
    double error = std::abs(static_cast<double>(actual[i]) - e) / (1 + std::abs(e));
    if (std::isnan(error)) error = INFINITY;
    if (error > worst) {
      worst = error;
      at = i;
    }
  }
  if (!actual.empty()) {
    EXPECT_LE(worst, tolerance) << what << "[" << at << "] is " << actual[at] << ", expected "
                                << expected[at];
  }
}

template <typename T>
void ExpectSameBits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(a[i]), std::bit_cast<uint32_t>(b[i]))
        << what << ": element " << i << " of " << a.size() << ": " << a[i] << " vs " << b[i];
  }
}

}  // namespace deltaserve
