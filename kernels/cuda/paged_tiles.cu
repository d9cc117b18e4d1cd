#include <algorithm>

#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_tiles.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kUncut = 1 << 30;  // positions: more than a sequence has

struct ListArgs {
  PagedTiles to;
  const int32_t* positions;
  const int32_t* row_begin;
  const int32_t* slot;
  int first_sequence;
  int num_sequences;
  int group;
  int tile_queries;
  int extra_items;
  int max_blocks;
  int num_blocks;       // of the table
  int32_t* first_item;  // [num_sequences + 1], by number within the list
};

__device__ int Ceil(int a, int b) { return (a + b - 1) / b; }

struct Sequence {
  int rows;
  int tiles;
  int positions;
};

__device__ Sequence SequenceAt(const ListArgs& a, int index) {
  const int32_t* begin = a.row_begin + a.first_sequence + index;
  const int rows = begin[1] - begin[0];
  return {rows, Ceil(rows * a.group, a.tile_queries), a.positions[begin[1] - 1] + 1};
}

// One block. With u positions units of kPartUnit, parts of c units and t tiles, a sequence has
// t * ceil(u / c) < t + t * u / c items: so c is the sum of t * u over extra_items.
__device__ int PartSize(const ListArgs& a, int* shared) {
  if (a.extra_items == 0) return kUncut;
  int work = 0;
  for (int i = static_cast<int>(threadIdx.x); i < a.num_sequences; i += kThreads) {
    const Sequence sequence = SequenceAt(a, i);
    work += sequence.tiles * Ceil(sequence.positions, kPartUnit);
  }
  return Ceil(ScanBlock(work, shared).total, a.extra_items) * kPartUnit;
}

// The largest index with first_item[index] <= item.
__device__ int SequenceOf(const ListArgs& a, int item) {
  int low = 0;
  int high = a.num_sequences;  // first_item[high] > item
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (a.first_item[middle] <= item) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__global__ void __launch_bounds__(kThreads) ListTiles(ListArgs a) {
  __shared__ int shared_work[kThreads / kWarp];
  __shared__ int shared_items[kThreads / kWarp];
  __shared__ int shared_partials[kThreads / kWarp];
  const int thread = static_cast<int>(threadIdx.x);
  const int part_size = PartSize(a, shared_work);
  int items = 0;  // of the sequences before
  int partials = 0;
  for (int base = 0; base < a.num_sequences; base += kThreads) {
    const int index = base + thread;
    Sequence sequence = {0, 0, 0};
    if (index < a.num_sequences) sequence = SequenceAt(a, index);
    const int parts = Ceil(sequence.positions, part_size);
    const Scan item_scan = ScanBlock(sequence.tiles * parts, shared_items);
    const Scan partial_scan = ScanBlock(sequence.rows * parts, shared_partials);
    if (index < a.num_sequences) {
      const int number = a.first_sequence + index;
      a.first_item[index] = items + item_scan.before;
      a.to.first_partial[number] = partials + partial_scan.before;
      a.to.num_positions[number] = sequence.positions;
      a.to.page_begin[number] = a.slot[number] * a.max_blocks;
    }
    items += item_scan.total;
    partials += partial_scan.total;
    __syncthreads();  // the sums of warps are written anew; after the last, all items can be found
  }
  if (thread == 0) {
    *a.to.part_size = part_size;
    a.to.page_begin[a.first_sequence + a.num_sequences] = a.num_blocks;
    Require(items <= a.to.capacity);
  }
  for (int i = thread; i < a.to.capacity; i += kThreads) {
    a.to.valid[i] = i < items;
    if (i >= items) continue;
    const int item = items - 1 - i;
    const int index = SequenceOf(a, item);
    const int within = item - a.first_item[index];
    const int number = a.first_sequence + index;
    const int parts = Ceil(a.to.num_positions[number], part_size);
    a.to.sequence[i] = number;
    a.to.query_tile[i] = within / parts;
    a.to.part[i] = within % parts;
  }
}

// No fewer than the tiles of as many rows or fewer in any number of sequences that there are slots
// for.
int64_t MostTiles(const PagedPart& part, const RowBatch& rows) {
  return rows.block_table.dim(0) + part.num_rows * part.group / part.tile_queries;
}

}  // namespace

int64_t PagedPart::num_tiles() const {
  const int64_t sequences = end_sequence - first_sequence;
  // One each, and one for every further tile_queries queries.
  return sequences + (num_rows * group - sequences) / tile_queries;
}

PagedPart DecodePart(const RowBatch& rows, int64_t num_heads, int64_t num_kv_heads, int64_t fill) {
  PagedPart part{.first_sequence = 0,
                 .end_sequence = rows.num_decode,
                 .first_row = 0,
                 .num_rows = rows.num_decode_rows,
                 .group = num_heads / num_kv_heads,
                 .tile_queries = 16};
  const int64_t most = MostTiles(part, rows);
  part.extra_items = std::max(fill, part.num_tiles());
  part.most_items = most + std::max(fill, most);
  part.most_partials = part.most_items * part.tile_queries * num_kv_heads;
  return part;
}

PagedPart ChunkPart(const RowBatch& rows, int64_t num_heads, int64_t num_kv_heads, int64_t fill) {
  PagedPart part{.first_sequence = rows.num_decode,
                 .end_sequence = rows.num_sequences,
                 .first_row = rows.num_decode_rows,
                 .num_rows = rows.num_rows - rows.num_decode_rows,
                 .group = num_heads / num_kv_heads,
                 .tile_queries = 64};
  part.extra_items = part.num_tiles() < fill ? fill : 0;
  part.most_items = MostTiles(part, rows) + fill;
  part.most_partials = 2 * fill * part.tile_queries * num_kv_heads;
  return part;
}

PagedTiles ListPagedTiles(const RowBatch& rows, const PagedPart& part, Arena& arena, Queue& queue) {
  const int64_t num_slots = rows.block_table.dim(0);
  const int64_t max_blocks = rows.block_table.dim(1);
  const int64_t sequences = part.end_sequence - part.first_sequence;
  DS_CHECK(sequences >= 1 && sequences <= num_slots && part.num_rows >= sequences)
      << sequences << " sequences of " << part.num_rows << " rows in " << num_slots << " slots";
  // Of FlashInfer's kernels: a position of a slot in the table is 32 bits.
  DS_CHECK_LT(num_slots * max_blocks * kBlockTokens, int64_t{1} << 32)
      << num_slots << " slots of " << max_blocks << " blocks";
  DS_CHECK_LT(part.num_tiles() * (max_blocks * kBlockTokens / kPartUnit + 1), int64_t{1} << 31)
      << part.num_tiles() << " tiles of " << max_blocks << " blocks";
  const auto ints = [&](int64_t count) {
    return arena.Allocate(DType::kI32, {count}).as<int32_t>();
  };
  PagedTiles tiles;
  tiles.capacity = part.num_tiles() + part.extra_items;
  DS_CHECK_LE(tiles.capacity, part.most_items);
  tiles.sequence = ints(part.most_items);
  tiles.query_tile = ints(part.most_items);
  tiles.part = ints(part.most_items);
  tiles.valid =
      reinterpret_cast<bool*>(ints(part.most_items / static_cast<int64_t>(sizeof(int32_t)) + 1));
  tiles.part_size = ints(1);
  tiles.num_positions = ints(num_slots);
  tiles.page_begin = ints(num_slots + 1);
  tiles.first_partial = ints(num_slots);
  Launch<&ListTiles>(queue, dim3(1), dim3(kThreads), 0,
                     ListArgs{.to = tiles,
                              .positions = rows.positions.as<int32_t>(),
                              .row_begin = rows.row_begin.as<int32_t>(),
                              .slot = rows.slot.as<int32_t>(),
                              .first_sequence = static_cast<int>(part.first_sequence),
                              .num_sequences = static_cast<int>(sequences),
                              .group = static_cast<int>(part.group),
                              .tile_queries = static_cast<int>(part.tile_queries),
                              .extra_items = static_cast<int>(part.extra_items),
                              .max_blocks = static_cast<int>(max_blocks),
                              .num_blocks = static_cast<int>(num_slots * max_blocks),
                              .first_item = ints(num_slots + 1)});
  return tiles;
}

}  // namespace deltaserve::cuda
