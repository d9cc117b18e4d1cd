// The host shim of CUDA's threads: what it computes, and what mistakes of a kernel it finds.

#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/launch.h"
#include "kernels/tensor/dtype.h"

namespace deltaserve::cuda {
namespace {

// Indices of these kernels are small, and the wrong ones are wrong on purpose.
// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result,bugprone-branch-clone)
constexpr int kThreads = 128;
constexpr int kSeeds = 20;

template <auto kKernel, typename... Args>
void RunKernel(uint64_t seed, dim3 grid, dim3 block, size_t shared_bytes, Args... args) {
  Queue queue(seed);
  Launch<kKernel>(queue, grid, block, shared_bytes, args...);
  queue.Run();
}

template <bool kSync>
__global__ void Reverse(const int* in, int* out) {
  int* shared = SharedMemory<int>();
  const unsigned int i = threadIdx.x;
  shared[i] = in[i];
  if (kSync) __syncthreads();
  out[i] = shared[blockDim.x - 1 - i];
}

// How many seeds give the right answer.
template <bool kSync>
int RightAnswers() {
  std::vector<int> in(kThreads);
  std::iota(in.begin(), in.end(), 0);
  int right = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<int> out(kThreads, -2);
    RunKernel<&Reverse<kSync>>(seed, dim3(1), dim3(kThreads), kThreads * sizeof(int), in.data(),
                               out.data());
    right += std::vector<int>(out.rbegin(), out.rend()) == in ? 1 : 0;
  }
  return right;
}

TEST(CudaShimTest, AMissingBarrierGivesWrongAnswers) {
  EXPECT_EQ(RightAnswers<true>(), kSeeds);
  EXPECT_EQ(RightAnswers<false>(), 0);
}

// Each warp's sum goes to the next warp, through an array that is not cleared.
__global__ void PassSums(bool sync, float* out) {
  __shared__ float sums[kWarp];
  const float sum = WarpSum(static_cast<float>(threadIdx.x));
  if (LaneId() == 0) sums[WarpId()] = sum;
  if (sync) __syncthreads();
  out[threadIdx.x] = sums[(WarpId() + 1) % (static_cast<int>(blockDim.x) / kWarp)];
}

TEST(CudaShimTest, WarpsRunInAnOrderOfTheSeed) {
  // Without a barrier warp w reads what warp w + 1 has not written for some seed, for each w.
  std::vector<float> expected(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    const int warp = (i / kWarp + 1) % (kThreads / kWarp);
    expected[static_cast<size_t>(i)] = static_cast<float>(kWarp * warp * kWarp + 31 * 16);
  }
  std::vector<int> wrong(kThreads);
  for (uint64_t seed = 0; seed < 2 * kSeeds; ++seed) {
    std::vector<float> out(kThreads);
    RunKernel<&PassSums>(seed, dim3(1), dim3(kThreads), 0, true, out.data());
    EXPECT_EQ(out, expected);
    RunKernel<&PassSums>(seed, dim3(1), dim3(kThreads), 0, false, out.data());
    for (size_t i = 0; i < kThreads; ++i) wrong[i] += out[i] != expected[i] ? 1 : 0;
  }
#if !defined(__SANITIZE_ADDRESS__)  // with it, such arrays keep what an earlier block left
  EXPECT_THAT(wrong, testing::Each(testing::Gt(0)));
#endif
}

__global__ void Sums(float* sum, float* maximum) {
  __shared__ float shared[kWarp];
  const auto x = static_cast<float>(threadIdx.x);
  const float s = BlockSum(x, shared);
  const float m = BlockMax(-x, shared);
  sum[blockIdx.x * blockDim.x + threadIdx.x] = s;
  maximum[blockIdx.x * blockDim.x + threadIdx.x] = m;
}

TEST(CudaShimTest, BlockSumsReachEveryThread) {
  std::vector<float> sum(2 * kThreads);
  std::vector<float> maximum(2 * kThreads, 1.0F);
  RunKernel<&Sums>(3, dim3(2), dim3(kThreads), 0, sum.data(), maximum.data());
  EXPECT_THAT(sum, testing::Each(kThreads * (kThreads - 1) / 2));
  EXPECT_THAT(maximum, testing::Each(0.0F));
}

__global__ void Places(int* out) {
  const unsigned int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned int threads = blockDim.x * blockDim.y * blockDim.z;
  AtomicAdd(&out[block * threads + thread], 1);
}

TEST(CudaShimTest, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> out(2 * 3 * 4 * 64);
  RunKernel<&Places>(5, dim3(2, 3, 4), dim3(8, 4, 2), 0, out.data());
  EXPECT_THAT(out, testing::Each(1));
  RunKernel<&Places>(5, dim3(0, 3, 4), dim3(8, 4, 2), 0, out.data());
  EXPECT_THAT(out, testing::Each(1));
}

__global__ void Shuffles(int32_t* out) {
  const int lane = LaneId();
  int32_t* to = out + lane * 6;
  to[0] = Shuffle(lane, 7);
  to[1] = ShuffleXor(lane, 5);
  to[2] = ShuffleUp(lane, 3);
  to[3] = ShuffleDown(lane, 3);
  to[4] = static_cast<int32_t>(Ballot(lane % 3 == 0));
  to[5] = (AnyLane(lane == 31) ? 1 : 0) + (AnyLane(lane == 32) ? 2 : 0);
}

TEST(CudaShimTest, LanesExchangeAsAWarpDoes) {
  std::vector<int32_t> out(kWarp * 6);
  RunKernel<&Shuffles>(1, dim3(1), dim3(kWarp), 0, out.data());
  uint32_t votes = 0;
  for (int lane = 0; lane < kWarp; lane += 3) votes |= 1U << lane;
  for (int lane = 0; lane < kWarp; ++lane) {
    const std::vector<int32_t> of_lane(out.begin() + lane * 6, out.begin() + lane * 6 + 6);
    EXPECT_THAT(of_lane,
                testing::ElementsAre(7, lane ^ 5, lane < 3 ? lane : lane - 3,
                                     lane > 28 ? lane : lane + 3, static_cast<int32_t>(votes), 1));
  }
}

// One 16 x 16 by 16 x 8 product; A is read row-major, B is stored [n][k].
__global__ void Multiply(const bf16* a, const bf16* b, float* d) {
  const int g = LaneId() / 4;
  const int t = LaneId() % 4;
  const auto pair = [](const bf16* p) { return PackBf16(ToFloat(p[0]), ToFloat(p[1])); };
  const uint32_t ra[4] = {pair(a + g * 16 + 2 * t), pair(a + (g + 8) * 16 + 2 * t),
                          pair(a + g * 16 + 2 * t + 8), pair(a + (g + 8) * 16 + 2 * t + 8)};
  const uint32_t rb[2] = {pair(b + g * 16 + 2 * t), pair(b + g * 16 + 2 * t + 8)};
  float rd[4] = {0.5F, 0.5F, 0.5F, 0.5F};
  MmaBf16(rd, ra, rb);
  d[g * 8 + 2 * t] = rd[0];
  d[g * 8 + 2 * t + 1] = rd[1];
  d[(g + 8) * 8 + 2 * t] = rd[2];
  d[(g + 8) * 8 + 2 * t + 1] = rd[3];
}

// Whole numbers, different for each element, whose sums of products are exact in f32.
std::vector<bf16> Numbers(int n, int step) {
  std::vector<bf16> numbers;
  numbers.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) numbers.push_back(ToBf16(static_cast<float>(i * step % 97 - 48)));
  return numbers;
}

TEST(CudaShimTest, MmaMultipliesFragmentsInTheDocumentedLayout) {
  const std::vector<bf16> a = Numbers(256, 5);
  const std::vector<bf16> b = Numbers(128, 7);
  std::vector<float> d(128);
  RunKernel<&Multiply>(1, dim3(1), dim3(kWarp), 0, a.data(), b.data(), d.data());
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < 8; ++n) {
      float sum = 0.5F;
      for (size_t k = 0; k < 16; ++k) sum += ToFloat(a[m * 16 + k]) * ToFloat(b[n * 16 + k]);
      ASSERT_EQ(d[m * 8 + n], sum) << m << ", " << n;
    }
  }
}

template <bool kTransposed>
__global__ void Load(const bf16* in, uint32_t* out) {
  auto* shared = SharedMemory<bf16>();
  for (int i = LaneId(); i < 256; i += kWarp) shared[i] = in[i];
  SyncWarp();
  uint32_t r[4];
  const bf16* row = shared + LaneId() * 8;
  if (kTransposed) {
    LoadMatricesTransposed(r, row);
  } else {
    LoadMatrices(r, row);
  }
  for (int j = 0; j < 4; ++j) out[j * kWarp + LaneId()] = r[j];
}

TEST(CudaShimTest, LoadMatricesGivesEachLaneItsPairs) {
  const std::vector<bf16> in = Numbers(256, 3);  // matrix j: rows 8 j to 8 j + 7 of 8
  std::vector<uint32_t> plain(128);
  std::vector<uint32_t> transposed(128);
  RunKernel<&Load<false>>(1, dim3(1), dim3(kWarp), 512, in.data(), plain.data());
  RunKernel<&Load<true>>(1, dim3(1), dim3(kWarp), 512, in.data(), transposed.data());
  for (size_t j = 0; j < 4; ++j) {
    for (size_t lane = 0; lane < 32; ++lane) {
      const size_t g = lane / 4;
      const size_t t = lane % 4 * 2;
      const bf16* matrix = in.data() + j * 64;
      ASSERT_EQ(plain[j * 32 + lane], matrix[g * 8 + t].bits | matrix[g * 8 + t + 1].bits << 16);
      ASSERT_EQ(transposed[j * 32 + lane],
                matrix[t * 8 + g].bits | matrix[(t + 1) * 8 + g].bits << 16);
    }
  }
}

// Each thread copies 16 bytes twice, and reads the first copy when it has waited for all but kLeft.
template <int kLeft>
__global__ void CopyTwice(const float* in, float* out) {
  auto* shared = SharedMemory<float>();
  const int i = static_cast<int>(threadIdx.x) * 4;
  const int n = static_cast<int>(blockDim.x) * 4;
  CopyAsync16(shared + i, in + i, i != 0);
  CommitCopies();
  CopyAsync16(shared + n + i, in + i, true);
  CommitCopies();
  WaitCopies<kLeft>();
  for (int k = 0; k < 4; ++k) out[i + k] = shared[i + k];
}

TEST(CudaShimTest, CopiesArriveWhenTheyAreWaitedForAndNotBefore) {
  std::vector<float> in(kThreads * 4);
  std::iota(in.begin(), in.end(), 1.0F);
  std::vector<float> expected = in;
  std::fill_n(expected.begin(), 4, 0.0F);  // of the copy that is not valid
  std::vector<float> out(in.size());
  const size_t bytes = 2 * in.size() * sizeof(float);
  RunKernel<&CopyTwice<1>>(1, dim3(1), dim3(kThreads), bytes, in.data(), out.data());
  EXPECT_EQ(out, expected);
  RunKernel<&CopyTwice<0>>(1, dim3(1), dim3(kThreads), bytes, in.data(), out.data());
  EXPECT_EQ(out, expected);
  RunKernel<&CopyTwice<2>>(1, dim3(1), dim3(kThreads), bytes, in.data(), out.data());
  EXPECT_THAT(out, testing::Each(testing::IsNan()));
}

__global__ void HalfAWarpSums(float* out) {
  if (LaneId() < 16) out[LaneId()] = WarpSum(1.0F);
}
__global__ void WarpSumAgainstBarrier() {
  if (LaneId() < 16) {
    SyncWarp();
  } else {
    __syncthreads();
  }
}
__global__ void TwoWarpFunctions() {
  if (LaneId() < 16) {
    Ballot(true);
  } else {
    SyncWarp();
  }
}
__global__ void TwoBarriers() {
  if (WarpId() == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void Misaligned(const unsigned char* in) { LoadStreaming(in + 4); }
__global__ void Empty() {}

TEST(CudaShimDeathTest, MisuseNamesTheKernelAndThePlace) {
  alignas(16) static unsigned char bytes[64];
  float out[kWarp];
  EXPECT_DEATH(RunKernel<&HalfAWarpSums>(1, dim3(1), dim3(64), 0, out),
               "HalfAWarpSums.*block \\(0, 0, 0\\): no thread can go on: threads 0-15 wait in "
               "ShuffleXor at device_code.h:[0-9]+; threads 16-31 have ended; threads 32-47 wait");
  EXPECT_DEATH(RunKernel<&WarpSumAgainstBarrier>(1, dim3(1), dim3(32), 0),
               "WarpSumAgainstBarrier.*threads 0-15 wait in SyncWarp at cuda_shim_test.cc:[0-9]+; "
               "threads 16-31 wait in __syncthreads at cuda_shim_test.cc");
  EXPECT_DEATH(RunKernel<&TwoWarpFunctions>(1, dim3(1), dim3(32), 0),
               "TwoWarpFunctions.*warp 0: lane [0-9]+ calls .* while other lanes wait in ");
  EXPECT_DEATH(RunKernel<&TwoBarriers>(1, dim3(1), dim3(64), 0),
               "TwoBarriers.*threads wait in different __syncthreads");
  EXPECT_DEATH(
      RunKernel<&Misaligned>(1, dim3(1), dim3(32), 0, static_cast<const unsigned char*>(bytes)),
      "LoadStreaming at .*not aligned to 16 bytes");
  EXPECT_DEATH(RunKernel<&Empty>(1, dim3(1), dim3(48), 0),
               "48 x 1 x 1 threads; use a multiple of 32");
  EXPECT_DEATH(RunKernel<&Empty>(1, dim3(1, 70000), dim3(32), 0), "at most 65535");
  EXPECT_DEATH(RunKernel<&Empty>(1, dim3(1), dim3(32), 300000), "300000 vs 232448");
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result,bugprone-branch-clone)

}  // namespace
}  // namespace deltaserve::cuda
