#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;

// BuildRowsArgs and its RowBatch as a kernel takes them.
struct RowsPlan {
  int num_decode;
  int num_chunks;
  int num_rows;
  int num_new;
  int table_size;
  const int32_t* slot_length;
  const int32_t* slot_last_token;
  const int32_t* slot_state;
  const int32_t* sequence_slot;
  const int32_t* chunk_start;
  const int32_t* chunk_begin;
  const int32_t* chunk_ids;
  const int32_t* new_entry;
  const int32_t* new_block;
  int32_t* ids;
  int32_t* positions;
  int32_t* row_sequence;
  int32_t* row_begin;
  int32_t* slot;
  int32_t* state;
  int32_t* block_table;
};

// The chunk that holds entry `i` of chunk_ids: the last one that begins at or before it.
__device__ int ChunkOf(const RowsPlan& plan, int i) {
  int begin = 0;
  int end = plan.num_chunks;
  while (end - begin > 1) {
    const int middle = (begin + end) / 2;
    if (plan.chunk_begin[middle] <= i) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  return begin;
}

// One thread a row, one a sequence and one a new block.
__global__ void BuildRowsKernel(RowsPlan plan) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int num_sequences = plan.num_decode + plan.num_chunks;
  if (i < num_sequences) {
    const int32_t slot = plan.sequence_slot[i];
    plan.slot[i] = slot;
    plan.state[i] = plan.slot_state[slot];
  }
  if (i <= num_sequences) {
    const int chunk = i - plan.num_decode;
    plan.row_begin[i] = i == num_sequences ? plan.num_rows
                        : chunk < 0        ? i
                                           : plan.num_decode + plan.chunk_begin[chunk];
  }
  if (i < plan.num_new) {
    const int32_t entry = plan.new_entry[i];
    Require(entry >= 0 && entry < plan.table_size);
    plan.block_table[entry] = plan.new_block[i];
  }
  if (i >= plan.num_rows) return;
  if (i < plan.num_decode) {
    const int32_t slot = plan.sequence_slot[i];
    plan.ids[i] = plan.slot_last_token[slot];
    plan.positions[i] = plan.slot_length[slot];
    plan.row_sequence[i] = i;
    return;
  }
  const int entry = i - plan.num_decode;
  const int chunk = ChunkOf(plan, entry);
  plan.ids[i] = plan.chunk_ids[entry];
  plan.positions[i] = plan.chunk_start[chunk] + entry - plan.chunk_begin[chunk];
  plan.row_sequence[i] = plan.num_decode + chunk;
}

// One block a row.
template <int kUnit, typename Table, typename Out>
__global__ void EmbedKernel(const int32_t* ids,
                            const Table* table,
                            int64_t first_row,
                            int64_t local_rows,
                            int width,
                            Out* out) {
  const int64_t local = ids[blockIdx.x] - first_row;
  const bool here = local >= 0 && local < local_rows;
  Out* to = out + static_cast<int64_t>(blockIdx.x) * width;
  for (int i = static_cast<int>(threadIdx.x) * kUnit; i < width;
       i += static_cast<int>(blockDim.x) * kUnit) {
    Unit<kUnit> unit = {};
    if (here) unit = LoadUnit<kUnit>(table + local * width + i);
    StoreUnit(to + i, unit);
  }
}

// One block a row of `width` words.
template <typename Word>
__global__ void GatherRowsKernel(const Word* x, const int32_t* rows, int width, Word* out) {
  const Word* from = x + static_cast<int64_t>(rows[blockIdx.x]) * width;
  Word* to = out + static_cast<int64_t>(blockIdx.x) * width;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += static_cast<int>(blockDim.x)) {
    to[i] = from[i];
  }
}

template <typename Table, typename Out>
void EmbedAs(const EmbedArgs& args, const Table* table, Out* out, Queue& queue) {
  const int64_t width = args.table.dim(1);
  const dim3 grid(Blocks(args.ids.numel(), 1));
  const int32_t* ids = args.ids.as<int32_t>();
  const auto columns = static_cast<int>(width);
  if (ByEights(width, {&args.table, &args.out})) {
    Launch<&EmbedKernel<8, Table, Out>>(queue, grid, dim3(ThreadsFor(width / 8, kThreads)), 0, ids,
                                        table, args.first_row, args.table.dim(0), columns, out);
  } else {
    Launch<&EmbedKernel<1, Table, Out>>(queue, grid, dim3(ThreadsFor(width, kThreads)), 0, ids,
                                        table, args.first_row, args.table.dim(0), columns, out);
  }
}

template <typename Table>
void EmbedFrom(const EmbedArgs& args, const Table* table, Queue& queue) {
  if (args.out.dtype() == DType::kBF16) {
    EmbedAs(args, table, Bf16Of(args.out), queue);
  } else {
    EmbedAs(args, table, args.out.as<float>(), queue);
  }
}

template <typename Word>
void GatherWords(const GatherRowsArgs& args, size_t row_bytes, Queue& queue) {
  const auto width = static_cast<int>(row_bytes / sizeof(Word));
  Launch<&GatherRowsKernel<Word>>(queue, dim3(Blocks(args.rows.numel(), 1)),
                                  dim3(ThreadsFor(width, kThreads)), 0,
                                  static_cast<const Word*>(args.x.data()), args.rows.as<int32_t>(),
                                  width, static_cast<Word*>(args.out.data()));
}

struct Sampled {
  int ranks;
  int merged;
  int rows;
  int num_slots;
  const int32_t* pairs;
  const int32_t* forced;
  const int32_t* slot;
  int32_t* id;
  int32_t* slot_last_token;
};

__global__ void StoreSampledKernel(Sampled sampled) {
  const int r = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (r >= sampled.rows) return;
  int32_t id = sampled.id[r];
  if (r < sampled.merged) {
    const int32_t* pair = sampled.pairs + r;
    float best = -INFINITY;
    id = -1;
    for (int rank = 0; rank < sampled.ranks; ++rank, pair += 2 * sampled.merged) {
      const float value = FloatOf(static_cast<uint32_t>(pair[0]));
      if (value > best) {
        best = value;
        id = pair[sampled.merged];
      }
    }
  }
  if (sampled.forced[r] >= 0) id = sampled.forced[r];
  Require(sampled.slot[r] >= 0 && sampled.slot[r] < sampled.num_slots);
  sampled.id[r] = id;
  sampled.slot_last_token[sampled.slot[r]] = id;
}

}  // namespace

void BuildRows(const BuildRowsArgs& args, Queue& queue) {
  const RowBatch& out = *args.out;
  const int64_t num_sequences = args.num_decode + args.num_chunks;
  DS_CHECK(out.num_sequences == num_sequences && args.sequence_slot.numel() == num_sequences &&
           out.num_rows == args.num_decode + args.chunk_ids.numel())
      << out.num_rows << " rows of " << out.num_sequences << " sequences";
  const int64_t num_new = args.new_entry.numel();
  DS_CHECK_EQ(args.new_block.numel(), num_new);
  const bool any_new = num_new > 0;
  const RowsPlan plan = {.num_decode = static_cast<int>(args.num_decode),
                         .num_chunks = static_cast<int>(args.num_chunks),
                         .num_rows = static_cast<int>(out.num_rows),
                         .num_new = static_cast<int>(num_new),
                         .table_size = static_cast<int>(out.block_table.numel()),
                         .slot_length = args.slot_length.as<int32_t>(),
                         .slot_last_token = args.slot_last_token.as<int32_t>(),
                         .slot_state = args.slot_state.as<int32_t>(),
                         .sequence_slot = args.sequence_slot.as<int32_t>(),
                         .chunk_start = args.chunk_start.as<int32_t>(),
                         .chunk_begin = args.chunk_begin.as<int32_t>(),
                         .chunk_ids = args.chunk_ids.as<int32_t>(),
                         .new_entry = any_new ? args.new_entry.as<int32_t>() : nullptr,
                         .new_block = any_new ? args.new_block.as<int32_t>() : nullptr,
                         .ids = out.ids.as<int32_t>(),
                         .positions = out.positions.as<int32_t>(),
                         .row_sequence = out.row_sequence.as<int32_t>(),
                         .row_begin = out.row_begin.as<int32_t>(),
                         .slot = out.slot.as<int32_t>(),
                         .state = out.state.as<int32_t>(),
                         .block_table = any_new ? out.block_table.as<int32_t>() : nullptr};
  const int64_t threads = std::max({out.num_rows, num_sequences + 1, num_new});
  Launch<&BuildRowsKernel>(queue, dim3(Blocks(threads, kThreads)), dim3(kThreads), 0, plan);
}

void Embed(const EmbedArgs& args, Queue& queue) {
  DS_CHECK(args.out.dim(0) == args.ids.numel() && args.out.dim(1) == args.table.dim(1))
      << args.ids.ToString() << " to " << args.out.ToString();
  if (args.table.dtype() == DType::kBF16) {
    EmbedFrom(args, Bf16Of(args.table), queue);
  } else {
    EmbedFrom(args, args.table.as<float>(), queue);
  }
}

void GatherRows(const GatherRowsArgs& args, Queue& queue) {
  const int64_t width = args.x.dim(1);
  DS_CHECK(args.out.dim(0) == args.rows.numel() && args.out.dim(1) == width &&
           args.out.dtype() == args.x.dtype())
      << args.x.ToString() << " to " << args.out.ToString();
  const size_t row_bytes = static_cast<size_t>(width) * DTypeSize(args.x.dtype());
  const auto address = reinterpret_cast<uintptr_t>(args.x.data()) |
                       reinterpret_cast<uintptr_t>(args.out.data()) | row_bytes;
  if (address % sizeof(uint4) == 0) {
    GatherWords<uint4>(args, row_bytes, queue);
  } else if (address % sizeof(uint32_t) == 0) {
    GatherWords<uint32_t>(args, row_bytes, queue);
  } else {
    GatherWords<uint16_t>(args, row_bytes, queue);
  }
}

void StoreSampled(const StoreSampledArgs& args, Queue& queue) {
  const int64_t rows = args.id.numel();
  const bool any_merged = args.pairs.numel() > 0;
  const Sampled sampled = {.ranks = any_merged ? static_cast<int>(args.pairs.dim(0)) : 0,
                           .merged = any_merged ? static_cast<int>(args.pairs.dim(2)) : 0,
                           .rows = static_cast<int>(rows),
                           .num_slots = static_cast<int>(args.slot_last_token.numel()),
                           .pairs = any_merged ? args.pairs.as<int32_t>() : nullptr,
                           .forced = args.forced.as<int32_t>(),
                           .slot = args.slot.as<int32_t>(),
                           .id = args.id.as<int32_t>(),
                           .slot_last_token = args.slot_last_token.as<int32_t>()};
  DS_CHECK(args.forced.numel() == rows && args.slot.numel() == rows && sampled.merged <= rows)
      << args.forced.ToString() << ", " << args.slot.ToString() << " for " << rows << " rows";
  Launch<&StoreSampledKernel>(queue, dim3(Blocks(rows, kThreads)), dim3(kThreads), 0, sampled);
}

}  // namespace deltaserve::cuda
