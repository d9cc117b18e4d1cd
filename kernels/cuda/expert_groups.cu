// A counting sort that keeps the order of pairs within an expert. Pairs are cut into chunks; thread
// e walks a chunk for expert e, so that places need no atomics and are the same in every run.

#include <algorithm>

#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/expert_groups.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/route_experts.h"

namespace deltaserve::cuda {
namespace {

constexpr int kChunk = 1024;
constexpr int kMaxWarps = static_cast<int>(kMaxExperts) / kWarp;

struct GroupArgs {
  const int32_t* experts;  // [num_pairs]
  int32_t num_pairs;
  int32_t first_expert;
  int32_t num_experts;
  int32_t tile_rows;
  int32_t num_chunks;
  int32_t* counts;  // [num_chunks, num_experts]: of the chunk; after the scan: of those before it
  int32_t* begin;   // [num_experts], into pairs
  int32_t* pairs;
  ExpertTile* tiles;
  int32_t* num_tiles;
};

// Pairs of a chunk.
__device__ int ChunkSize(const GroupArgs& a, int chunk) {
  const int left = a.num_pairs - chunk * kChunk;
  return left < kChunk ? left : kChunk;
}

// The block puts the experts of a chunk, counted from the first held one, into shared memory.
__device__ void LoadChunk(const GroupArgs& a, int chunk, int32_t* local) {
  const int size = ChunkSize(a, chunk);
  for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
    local[i] = a.experts[chunk * kChunk + i] - a.first_expert;
  }
  __syncthreads();
}

__device__ int CountInChunk(const int32_t* local, int size, int expert) {
  int count = 0;
#pragma unroll 8
  for (int i = 0; i < size; ++i) count += local[i] == expert ? 1 : 0;
  return count;
}

__device__ void PlaceChunk(
    const GroupArgs& a, const int32_t* local, int chunk, int expert, int32_t* to) {
  const int size = ChunkSize(a, chunk);
#pragma unroll 8
  for (int i = 0; i < size; ++i) {
    if (local[i] == expert) *to++ = chunk * kChunk + i;
  }
}

// Thread e gives the number of pairs of expert e and gets where they begin; its tiles are written.
__device__ int Cut(const GroupArgs& a, int count) {
  __shared__ int shared_pairs[kMaxWarps];
  __shared__ int shared_tiles[kMaxWarps];
  const int expert = static_cast<int>(threadIdx.x);
  const Scan pairs = ScanBlock(count, shared_pairs);
  const Scan tiles = ScanBlock((count + a.tile_rows - 1) / a.tile_rows, shared_tiles);
  ExpertTile* tile = a.tiles + tiles.before;
  for (int first = 0; first < count; first += a.tile_rows) {
    const int left = count - first;
    *tile++ = {expert, pairs.before + first, left < a.tile_rows ? left : a.tile_rows};
  }
  if (expert == 0) *a.num_tiles = tiles.total;
  return pairs.before;
}

// All at once where there is one chunk.
__global__ void GroupChunkKernel(GroupArgs a) {
  __shared__ int32_t local[kChunk];
  const int expert = static_cast<int>(threadIdx.x);
  LoadChunk(a, 0, local);
  const bool held = expert < a.num_experts;
  const int begin = Cut(a, held ? CountInChunk(local, ChunkSize(a, 0), expert) : 0);
  if (held) PlaceChunk(a, local, 0, expert, a.pairs + begin);
}

__global__ void CountChunksKernel(GroupArgs a) {
  __shared__ int32_t local[kChunk];
  const int expert = static_cast<int>(threadIdx.x);
  const int chunk = static_cast<int>(blockIdx.x);
  LoadChunk(a, chunk, local);
  if (expert < a.num_experts) {
    a.counts[static_cast<int64_t>(chunk) * a.num_experts + expert] =
        CountInChunk(local, ChunkSize(a, chunk), expert);
  }
}

// One block.
__global__ void ScanChunksKernel(GroupArgs a) {
  const int expert = static_cast<int>(threadIdx.x);
  const bool held = expert < a.num_experts;
  int sum = 0;
  if (held) {
    int32_t* count = a.counts + expert;
#pragma unroll 8
    for (int chunk = 0; chunk < a.num_chunks; ++chunk, count += a.num_experts) {
      const int of_chunk = *count;
      *count = sum;
      sum += of_chunk;
    }
  }
  const int begin = Cut(a, sum);
  if (held) a.begin[expert] = begin;
}

__global__ void PlaceChunksKernel(GroupArgs a) {
  __shared__ int32_t local[kChunk];
  const int expert = static_cast<int>(threadIdx.x);
  const int chunk = static_cast<int>(blockIdx.x);
  LoadChunk(a, chunk, local);
  if (expert < a.num_experts) {
    const int before = a.counts[static_cast<int64_t>(chunk) * a.num_experts + expert];
    PlaceChunk(a, local, chunk, expert, a.pairs + a.begin[expert] + before);
  }
}

}  // namespace

ExpertGroups GroupByExpert(const TensorView& experts,
                           int64_t first_expert,
                           int64_t num_experts,
                           int64_t tile_rows,
                           Arena& arena,
                           Queue& queue) {
  const int64_t pairs = experts.numel();
  DS_CHECK(num_experts >= 1 && num_experts <= kMaxExperts)
      << num_experts << " experts are held here; 1 to " << kMaxExperts << " can be";
  DS_CHECK(pairs <= INT32_MAX) << experts.ToString();
  const int64_t chunks = Blocks(pairs, kChunk);
  ExpertGroups groups;
  groups.max_tiles = pairs / tile_rows + std::min(num_experts, pairs);
  const GroupArgs args = {
      .experts = experts.as<int32_t>(),
      .num_pairs = static_cast<int32_t>(pairs),
      .first_expert = static_cast<int32_t>(first_expert),
      .num_experts = static_cast<int32_t>(num_experts),
      .tile_rows = static_cast<int32_t>(tile_rows),
      .num_chunks = static_cast<int32_t>(chunks),
      .counts = arena.Allocate(DType::kI32, {chunks, num_experts}).as<int32_t>(),
      .begin = arena.Allocate(DType::kI32, {num_experts}).as<int32_t>(),
      .pairs = arena.Allocate(DType::kI32, {pairs}).as<int32_t>(),
      .tiles = reinterpret_cast<ExpertTile*>(
          arena
              .Allocate(DType::kI32, {groups.max_tiles,
                                      static_cast<int64_t>(sizeof(ExpertTile) / sizeof(int32_t))})
              .as<int32_t>()),
      .num_tiles = arena.Allocate(DType::kI32, {1}).as<int32_t>(),
  };
  groups.pairs = args.pairs;
  groups.tiles = args.tiles;
  groups.num_tiles = args.num_tiles;

  const dim3 block(Blocks(num_experts, kWarp) * kWarp);
  const dim3 grid(static_cast<unsigned int>(chunks));
  if (chunks == 1) {
    Launch<&GroupChunkKernel>(queue, grid, block, 0, args);
    return groups;
  }
  Launch<&CountChunksKernel>(queue, grid, block, 0, args);
  Launch<&ScanChunksKernel>(queue, dim3(1), block, 0, args);
  Launch<&PlaceChunksKernel>(queue, grid, block, 0, args);
  return groups;
}

}  // namespace deltaserve::cuda
