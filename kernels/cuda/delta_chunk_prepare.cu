#include "kernels/cuda/delta_chunk.h"
#include "kernels/cuda/fragments.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kKeyStride = kDeltaHead + 8;  // of rows of q and k
constexpr int kMatrixStride = kChunkRows + 4;

struct Shared {
  bf16 q[kChunkRows * kKeyStride];
  bf16 k[kChunkRows * kKeyStride];
  float matrix[kChunkRows * kMatrixStride];  // I + N, then its inverse
  double decay_sum[kChunkRows];              // G
  float log_decay[kChunkRows];
  float beta[kChunkRows];
};

// A chunk: rows [first, first + count) of a sequence; count 0: a place without a chunk.
struct Chunk {
  int first;
  int count;
};

// The chunk at a place of the scratch (ChunkBase). The whole warp calls it.
__device__ Chunk FindChunk(const DeltaParams& p, int place) {
  // Bases ascend, so as many sequences as have theirs at or before the place, less one, are passed.
  const int chunks_begin = p.num_decode_rows;
  float passed = 0;
  for (int s = p.num_decode + LaneId(); s < p.num_sequences; s += kWarp) {
    if (ChunkBase(p.row_begin[s] - chunks_begin, s - p.num_decode) <= place) passed += 1.0F;
  }
  const int sequence = p.num_decode + static_cast<int>(WarpSum(passed)) - 1;
  const int begin = p.row_begin[sequence];
  const int base = ChunkBase(begin - chunks_begin, sequence - p.num_decode);
  const int first = begin + (place - base) * kChunkRows;
  const int left = p.row_begin[sequence + 1] - first;
  return {first, left < 0 ? 0 : (left < kChunkRows ? left : kChunkRows)};
}

// q and k of the chunk, zeros past its rows.
__device__ void LoadKeys(
    const DeltaParams& p, const bf16* conv, Chunk chunk, int key_head, Shared& shared) {
  constexpr int kPieces = kDeltaHead / 8;  // of 16 bytes
  for (int i = static_cast<int>(threadIdx.x); i < kChunkRows * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const int column = i % kPieces * 8;
    const bool valid = row < chunk.count;
    const int64_t from_row = chunk.first - p.num_decode_rows + (valid ? row : 0);
    const bf16* q = conv + from_row * p.channels + key_head * kDeltaHead + column;
    CopyAsync16(&shared.q[row * kKeyStride + column], q, valid);
    CopyAsync16(&shared.k[row * kKeyStride + column], q + p.num_key_heads * kDeltaHead, valid);
  }
  CommitCopies();
}

// Gates of the chunk's rows; past them nothing decays and nothing is written.
__device__ void Gates(const DeltaParams& p, Chunk chunk, int head, float* decay, Shared& shared) {
  const auto i = static_cast<int>(threadIdx.x);
  if (i < kChunkRows) {
    float log_decay = 0;
    float beta = 0;
    if (i < chunk.count) {
      const int64_t at = int64_t{chunk.first + i} * p.num_value_heads + head;
      log_decay = LogDecay(ToFloat(p.a[at]), p.a_log[head], p.dt_bias[head]);
      beta = Sigmoid(ToFloat(p.b[at]));
    }
    shared.log_decay[i] = log_decay;
    shared.beta[i] = beta;
  }
  __syncthreads();
  if (i < kChunkRows) {
    double sum = 0;
    for (int j = 0; j <= i; ++j) sum += static_cast<double>(shared.log_decay[j]);
    shared.decay_sum[i] = sum;
  }
  __syncthreads();
  if (i < kChunkRows) {
    const double sum = shared.decay_sum[i];
    decay[i] = expf(static_cast<float>(sum));
    decay[kChunkRows + i] = expf(static_cast<float>(shared.decay_sum[kChunkRows - 1] - sum));
  }
}

// k k^T and q k^T: to shared.matrix as I + N and to `attention` as it is. A warp has 16 rows i and
// 32 columns j.
__device__ void KeyProducts(Shared& shared, bf16* attention) {
  const int row = WarpId() / 2 * 16;
  const int column = WarpId() % 2 * 32;
  float kk[4][4] = {};
  float qk[4][4] = {};
  if (column <= row) {  // else above the diagonal
#pragma unroll
    for (int d = 0; d < kDeltaHead; d += 16) {
      uint32_t left_k[4];
      uint32_t left_q[4];
      LoadLeft(left_k, shared.k, kKeyStride, row, d);
      LoadLeft(left_q, shared.q, kKeyStride, row, d);
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        uint32_t right[2][2];
        LoadRightTransposed(right, shared.k, kKeyStride, column + n * 8, d);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          MmaBf16(kk[n + m], left_k, right[m]);
          MmaBf16(qk[n + m], left_q, right[m]);
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = row + LaneId() / 4 + half * 8;
      const int j = column + n * 8 + LaneId() % 4 * 2;
      float weights[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        // Masked before exp: above the diagonal the exponent is positive.
        const double exponent = shared.decay_sum[i] - shared.decay_sum[j + c];
        const float d = i >= j + c ? expf(static_cast<float>(exponent)) : 0.0F;
        weights[c] = qk[n][half * 2 + c] * d;
        shared.matrix[i * kMatrixStride + j + c] =
            i == j + c ? 1.0F : shared.beta[i] * kk[n][half * 2 + c] * d;
      }
      *reinterpret_cast<uint32_t*>(attention + i * kChunkRows + j) =
          PackBf16(weights[0], weights[1]);
    }
  }
}

// sums[n] = left_n . right_n, kDepth terms each: left_n at left + n * left_step, right_n at
// right + n * right_step in steps of kRightStride.
template <int kDepth, int kRightStride, int kSums>
__device__ void Dots(
    float (&sums)[kSums], const float* left, int left_step, const float* right, int right_step) {
  constexpr int kVector = kDepth < 4 ? kDepth : 4;
#pragma unroll
  for (int n = 0; n < kSums; ++n) sums[n] = 0;
#pragma unroll
  for (int m = 0; m < kDepth; m += kVector) {
#pragma unroll
    for (int n = 0; n < kSums; ++n) {
      float4 x;
      if constexpr (kVector == 4) {
        x = LoadFloat4(left + n * left_step + m);
      } else {
        x.x = left[n * left_step + m];
        if constexpr (kVector == 2) x.y = left[n * left_step + m + 1];
      }
      const float* y = right + n * right_step + m * kRightStride;
      sums[n] = fmaf(x.x, y[0], sums[n]);
      if constexpr (kVector >= 2) sums[n] = fmaf(x.y, y[kRightStride], sums[n]);
      if constexpr (kVector == 4) {
        sums[n] = fmaf(x.z, y[2 * kRightStride], sums[n]);
        sums[n] = fmaf(x.w, y[3 * kRightStride], sums[n]);
      }
    }
  }
}

// Pairs of neighbouring blocks of kHalf rows on the diagonal of `matrix`, which are inverses, and
// the block below the first of each pair become inverses of 2 kHalf rows:
//   (A 0; B C)^-1 = (A^-1 0; -C^-1 B A^-1 C^-1)
// product: 32 kHalf floats. Barriers at the start, not at the end.
template <int kHalf>
__device__ void JoinBlocks(float* matrix, float* product) {
  constexpr int kOutputs = kChunkRows / 2 * kHalf;  // of all pairs
  constexpr int kSums = kOutputs > kThreads ? kOutputs / kThreads : 1;
  // A thread's sums are those of rows kThreads / kHalf apart of one pair or of one row in each.
  constexpr bool kOnePair = kHalf * kHalf > kThreads;
  constexpr int kRows = kOnePair ? kThreads / kHalf : 0;
  constexpr int kPairs = kOnePair ? 0 : kThreads / (kHalf * kHalf);
  const auto o = static_cast<int>(threadIdx.x);
  const int pair = o / (kHalf * kHalf);
  const int i = o / kHalf % kHalf;
  const int j = o % kHalf;
  float* const first = matrix + pair * 2 * kHalf * (kMatrixStride + 1);
  float* const below = first + (kHalf + i) * kMatrixStride;
  constexpr int kPairStep = kPairs * 2 * kHalf * (kMatrixStride + 1);
  constexpr int kBelowStep = kPairStep + kRows * kMatrixStride;
  float sums[kSums];
  __syncthreads();
  if (o < kOutputs) {
    Dots<kHalf, kMatrixStride>(sums, below, kBelowStep, first + j, kPairStep);
#pragma unroll
    for (int n = 0; n < kSums; ++n) product[o + n * kThreads] = sums[n];
  }
  __syncthreads();
  if (o < kOutputs) {
    Dots<kHalf, kHalf>(sums, below + kHalf, kBelowStep, product + pair * kHalf * kHalf + j,
                       kPairs * kHalf * kHalf);
#pragma unroll
    for (int n = 0; n < kSums; ++n) below[n * kBelowStep + j] = -sums[n];
  }
}

// shared.matrix, unit lower triangular with zeros above, becomes its inverse.
__device__ void Invert(Shared& shared) {
  auto* product = reinterpret_cast<float*>(shared.q);  // which has been used
  static_assert(sizeof(shared.q) >= kChunkRows * kChunkRows / 4 * sizeof(float));
  JoinBlocks<1>(shared.matrix, product);
  JoinBlocks<2>(shared.matrix, product);
  JoinBlocks<4>(shared.matrix, product);
  JoinBlocks<8>(shared.matrix, product);
  JoinBlocks<16>(shared.matrix, product);
  JoinBlocks<32>(shared.matrix, product);
  __syncthreads();
}

// A block: one value head of one chunk. grid: (places of chunks, Hv).
__global__ void __launch_bounds__(kThreads) PrepareChunk(DeltaParams p, ChunkScratch scratch) {
  auto& shared = *SharedMemory<Shared>();
  const auto place = static_cast<int>(blockIdx.x);
  const auto head = static_cast<int>(blockIdx.y);
  const Chunk chunk = FindChunk(p, place);
  if (chunk.count == 0) return;
  const int64_t at = int64_t{place} * p.num_value_heads + head;
  LoadKeys(p, scratch.conv, chunk, head / (p.num_value_heads / p.num_key_heads), shared);
  Gates(p, chunk, head, scratch.decay + at * 2 * kChunkRows, shared);
  WaitCopies<0>();
  __syncthreads();
  KeyProducts(shared, scratch.attention + at * kChunkRows * kChunkRows);
  Invert(shared);
  bf16* inverse = scratch.inverse + at * kChunkRows * kChunkRows;
  constexpr int kPairs = kChunkRows / 2;
  for (int o = static_cast<int>(threadIdx.x); o < kChunkRows * kPairs; o += kThreads) {
    const int i = o / kPairs;
    const int j = o % kPairs * 2;
    const float* row = shared.matrix + i * kMatrixStride;
    *reinterpret_cast<uint32_t*>(inverse + i * kChunkRows + j) =
        PackBf16(row[j] * shared.beta[j], row[j + 1] * shared.beta[j + 1]);
  }
}

}  // namespace

void PrepareChunks(const DeltaParams& params, const ChunkScratch& scratch, Queue& queue) {
  Launch<&PrepareChunk>(queue,
                        dim3(static_cast<unsigned int>(scratch.chunks),
                             static_cast<unsigned int>(params.num_value_heads)),
                        dim3(kThreads), sizeof(Shared), params, scratch);
}

}  // namespace deltaserve::cuda
