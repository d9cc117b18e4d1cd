#include "kernels/cuda/delta_chunk.h"
#include "kernels/cuda/fragments.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 32;                   // of the state, to a block
constexpr int kKeyStride = kDeltaHead + 8;     // of rows of q and k
constexpr int kMatrixStride = kChunkRows + 8;  // of rows of 64 x 64 matrices
constexpr int kColumnStride = kColumns + 8;    // of rows of v and of the state
constexpr int kNormWarps = 8;

// What a chunk needs that no chunk before it has made.
struct Inputs {
  bf16 q[kChunkRows * kKeyStride];
  bf16 k[kChunkRows * kKeyStride];
  bf16 inverse[kChunkRows * kMatrixStride];
  bf16 attention[kChunkRows * kMatrixStride];
  bf16 v[kChunkRows * kColumnStride];
  float decay[2 * kChunkRows];
};

struct Shared {
  Inputs inputs[2];  // the chunk's and, on its way, the next one's
  bf16 state[kDeltaHead * kColumnStride];
  bf16 rest[kChunkRows * kColumnStride];     // V - X
  bf16 values[kChunkRows * kColumnStride];   // V'
  bf16 to_last[kChunkRows * kColumnStride];  // exp(G of the last row - G) V'
};

// `rows` rows of 8 * kPieces elements, those from `valid_rows` on as zeros.
template <int kPieces>
__device__ void CopyRows(
    bf16* to, int to_stride, const bf16* from, int64_t from_stride, int rows, int valid_rows) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const int column = i % kPieces * 8;
    const bool valid = row < valid_rows;
    CopyAsync16(to + row * to_stride + column, from + (valid ? row : 0) * from_stride + column,
                valid);
  }
}

// One value head's columns [column, column + kColumns) of a sequence.
struct Task {
  int head;
  int column;
  int begin;  // rows
  int end;
  int base;  // place of the first chunk
};

// Starts the copies of chunk `chunk`, one group.
__device__ void CopyInputs(
    const DeltaParams& p, const ChunkScratch& scratch, const Task& task, int chunk, Inputs& to) {
  const int first = task.begin + chunk * kChunkRows;
  const int count = task.end - first;  // or more than a chunk's rows
  const bf16* conv = scratch.conv + int64_t{first - p.num_decode_rows} * p.channels;
  const int key_head = task.head / (p.num_value_heads / p.num_key_heads);
  const bf16* q = conv + key_head * kDeltaHead;
  const bf16* v = conv + (2 * p.num_key_heads + task.head) * kDeltaHead + task.column;
  CopyRows<kDeltaHead / 8>(to.q, kKeyStride, q, p.channels, kChunkRows, count);
  CopyRows<kDeltaHead / 8>(to.k, kKeyStride, q + p.num_key_heads * kDeltaHead, p.channels,
                           kChunkRows, count);
  CopyRows<kColumns / 8>(to.v, kColumnStride, v, p.channels, kChunkRows, count);
  const int64_t at = int64_t{task.base + chunk} * p.num_value_heads + task.head;
  CopyRows<kChunkRows / 8>(to.inverse, kMatrixStride,
                           scratch.inverse + at * kChunkRows * kChunkRows, kChunkRows, kChunkRows,
                           kChunkRows);
  CopyRows<kChunkRows / 8>(to.attention, kMatrixStride,
                           scratch.attention + at * kChunkRows * kChunkRows, kChunkRows, kChunkRows,
                           kChunkRows);
  const auto i = static_cast<int>(threadIdx.x);
  if (i < 2 * kChunkRows / 4) {
    CopyAsync16(to.decay + i * 4, scratch.decay + at * 2 * kChunkRows + i * 4, true);
  }
  CommitCopies();
}

// d = a tile of the sums of MmaBf16 as bf16: rows row, row + 8; columns column, column + 1.
__device__ void StoreTile(bf16* to, int row, int column, const float (&d)[4]) {
  *reinterpret_cast<uint32_t*>(to + row * kColumnStride + column) = PackBf16(d[0], d[1]);
  *reinterpret_cast<uint32_t*>(to + (row + 8) * kColumnStride + column) = PackBf16(d[2], d[3]);
}

// d[n] += x[row .. row + 16][0 .. depth] y[0 .. depth][column + 8 n .. + 8]
__device__ void Multiply(
    float (&d)[2][4], const bf16* x, int x_stride, int row, int depth, const bf16* y, int column) {
#pragma unroll 4
  for (int i = 0; i < depth; i += 16) {
    uint32_t left[4];
    uint32_t right[2][2];
    LoadLeft(left, x, x_stride, row, i);
    LoadRight(right, y, kColumnStride, i, column);
    MmaBf16(d[0], left, right[0]);
    MmaBf16(d[1], left, right[1]);
  }
}

// Out and the next state of one chunk. Of products with the chunk's rows a warp has 16 rows and 16
// columns, of the state 16 rows and all columns, in `state` as MmaBf16 lays out sums.
__device__ void RunChunk(
    const DeltaParams& p, const Task& task, int chunk, Shared& shared, float (&state)[4][4]) {
  const Inputs& in = shared.inputs[chunk % 2];
  const int row = WarpId() % 4 * 16;
  const int column = WarpId() / 4 * 16;
  const int my_row = row + LaneId() / 4;            // and 8 below
  const int my_column = column + LaneId() % 4 * 2;  // and the next; and 8 to the right

  float read[2][4] = {};
  float out[2][4] = {};
#pragma unroll
  for (int i = 0; i < kDeltaHead; i += 16) {
    uint32_t left_k[4];
    uint32_t left_q[4];
    uint32_t right[2][2];
    LoadLeft(left_k, in.k, kKeyStride, row, i);
    LoadLeft(left_q, in.q, kKeyStride, row, i);
    LoadRight(right, shared.state, kColumnStride, i, column);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      MmaBf16(read[n], left_k, right[n]);
      MmaBf16(out[n], left_q, right[n]);
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float decay = in.decay[my_row + half * 8];
      const bf16* v = in.v + (my_row + half * 8) * kColumnStride + my_column + n * 8;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = read[n][half * 2 + c];
        x = ToFloat(v[c]) - decay * x;
        out[n][half * 2 + c] *= decay;
      }
    }
    StoreTile(shared.rest, my_row, my_column + n * 8, read[n]);
  }
  __syncthreads();

  // The matrices are zero above the diagonal.
  float values[2][4] = {};
  Multiply(values, in.inverse, kMatrixStride, row, row + 16, shared.rest, column);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    StoreTile(shared.values, my_row, my_column + n * 8, values[n]);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[n][i] *= in.decay[kChunkRows + my_row + i / 2 * 8];
    StoreTile(shared.to_last, my_row, my_column + n * 8, values[n]);
  }
  __syncthreads();

  Multiply(out, in.attention, kMatrixStride, row, row + 16, shared.values, column);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int to_row = task.begin + chunk * kChunkRows + my_row + half * 8;
    if (to_row < task.end) {
      bf16* to = p.out + (int64_t{to_row} * p.num_value_heads + task.head) * kDeltaHead +
                 task.column + my_column;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        *reinterpret_cast<uint32_t*>(to + n * 8) = PackBf16(out[n][half * 2], out[n][half * 2 + 1]);
      }
    }
  }

  const float decay = in.decay[kChunkRows - 1];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state[n][i] *= decay;
  }
#pragma unroll
  for (int i = 0; i < kChunkRows; i += 16) {
    uint32_t left[4];
    LoadLeftTransposed(left, in.k, kKeyStride, i, WarpId() * 16);
#pragma unroll
    for (int n = 0; n < 4; n += 2) {
      uint32_t right[2][2];
      LoadRight(right, shared.to_last, kColumnStride, i, n * 8);
      MmaBf16(state[n], left, right[0]);
      MmaBf16(state[n + 1], left, right[1]);
    }
  }
}

// A block: kColumns columns of the state of one value head of one sequence, chunk after chunk.
// grid: (dv / kColumns, Hv, sequences with chunks).
__global__ void __launch_bounds__(kThreads) RunSequence(DeltaParams p, ChunkScratch scratch) {
  auto& shared = *SharedMemory<Shared>();
  const auto number = static_cast<int>(blockIdx.z);
  const int sequence = p.num_decode + number;
  Task task;
  task.column = static_cast<int>(blockIdx.x) * kColumns;
  task.head = static_cast<int>(blockIdx.y);
  task.begin = p.row_begin[sequence];
  task.end = p.row_begin[sequence + 1];
  task.base = ChunkBase(task.begin - p.num_decode_rows, number);
  if (task.begin == task.end) return;
  CopyInputs(p, scratch, task, 0, shared.inputs[0]);

  // Rows 16 warp + lane / 4 and 8 below, columns 8 n + 2 (lane % 4) and the next.
  const int row = WarpId() * 16 + LaneId() / 4;
  const int column = LaneId() % 4 * 2;
  float* from = p.recurrent_state +
                ((int64_t{p.state[sequence]} * p.num_value_heads + task.head) * kDeltaHead + row) *
                    kDeltaHead +
                task.column + column;
  float state[4][4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 x = *reinterpret_cast<const float2*>(from + half * 8 * kDeltaHead + n * 8);
      state[n][half * 2] = x.x;
      state[n][half * 2 + 1] = x.y;
    }
  }
  const int chunks = (task.end - task.begin + kChunkRows - 1) / kChunkRows;
  for (int chunk = 0; chunk < chunks; ++chunk) {
#pragma unroll
    for (int n = 0; n < 4; ++n) StoreTile(shared.state, row, column + n * 8, state[n]);
    WaitCopies<0>();
    __syncthreads();  // and all have done with the chunk before, whose inputs are written next
    if (chunk + 1 < chunks) {
      CopyInputs(p, scratch, task, chunk + 1, shared.inputs[(chunk + 1) % 2]);
    }
    RunChunk(p, task, chunk, shared, state);
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<float2*>(from + half * 8 * kDeltaHead + n * 8) =
          make_float2(state[n][half * 2], state[n][half * 2 + 1]);
    }
  }
}

// A warp: one value head of one row. grid: (heads of rows).
__global__ void __launch_bounds__(kNormWarps* kWarp) NormHeads(DeltaParams p) {
  const int64_t index =
      int64_t{blockIdx.x} * kNormWarps + WarpId() + int64_t{p.num_decode_rows} * p.num_value_heads;
  if (index >= int64_t{p.num_rows} * p.num_value_heads) return;  // a whole warp, no barrier
  const int64_t at = index * kDeltaHead + LaneId() * 4;
  const float4 x = LoadBf16x4(p.out + at);
  const float4 z = LoadBf16x4(p.z + at);
  const float4 weight = LoadFloat4(p.norm_weight + LaneId() * 4);
  const float scale = rsqrtf(WarpSum(SumOfSquares(x)) / kDeltaHead + p.eps);
  StoreBf16x4(p.out + at,
              make_float4(x.x * scale * weight.x * Silu(z.x), x.y * scale * weight.y * Silu(z.y),
                          x.z * scale * weight.z * Silu(z.z), x.w * scale * weight.w * Silu(z.w)));
}

}  // namespace

void RunChunks(const DeltaParams& params, const ChunkScratch& scratch, Queue& queue) {
  Launch<&RunSequence>(
      queue,
      dim3(kDeltaHead / kColumns, static_cast<unsigned int>(params.num_value_heads),
           static_cast<unsigned int>(params.num_sequences - params.num_decode)),
      dim3(kThreads), sizeof(Shared), params, scratch);
}

void GateAndNorm(const DeltaParams& params, Queue& queue) {
  const int64_t rows = params.num_rows - params.num_decode_rows;
  Launch<&NormHeads>(queue, dim3(Blocks(rows * params.num_value_heads, kNormWarps)),
                     dim3(kNormWarps * kWarp), 0, params);
}

}  // namespace deltaserve::cuda
