#pragma once

// A work list for attention whose blocks of threads each take a tile of queries and a part of the
// positions that they see: made on the device, as lengths are known there only, in the arrays that
// FlashInfer's kernels read. The host knows how many items there are at most.

#include <cstdint>

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Positions: parts are whole multiples of it. FlashInfer's own scheduler cuts no finer.
inline constexpr int kPartUnit = 128;

// Sequences [first_sequence, end_sequence) of a step, which have rows [first_row, + num_rows), one
// at least each. A query is a row and one of the `group` query heads of a KV head, heads fastest; a
// tile has up to `tile_queries` queries of one sequence. An item is a tile and a part of positions.
struct PagedPart {
  int64_t first_sequence = 0;
  int64_t end_sequence = 0;
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t group = 1;
  int64_t tile_queries = 1;
  // Tiles are cut into as many parts as make so many items more at most, all of one size: long
  // sequences into many, short ones into one. 0: none is cut.
  int64_t extra_items = 0;
  // Of this and of smaller steps with as many slots, for scratch: items, and partial results of a
  // row and a head.
  int64_t most_items = 0;
  int64_t most_partials = 0;

  // That there can be, whatever rows each sequence has.
  int64_t num_tiles() const;
};

// Those that decode, in tiles of 16, are always cut: one long sequence among short ones is shared
// by many processors. Chunks, in tiles of 64, are where there are fewer tiles than `fill`, items
// that fill all processors.
PagedPart DecodePart(const RowBatch& rows, int64_t num_heads, int64_t num_kv_heads, int64_t fill);
PagedPart ChunkPart(const RowBatch& rows, int64_t num_heads, int64_t num_kv_heads, int64_t fill);

// Device memory of the arena, by number of the sequence in the step where per sequence.
struct PagedTiles {
  int64_t capacity = 0;    // of the arrays of items, no fewer than items
  int32_t* sequence;       // [capacity]
  int32_t* query_tile;     // [capacity], within the sequence
  int32_t* part;           // [capacity]: positions [part * part_size, (part + 1) * part_size)
  bool* valid;             // [capacity]: what else is in an item that is not is undefined
  int32_t* part_size;      // [1]
  int32_t* num_positions;  // that the last row of the sequence sees
  int32_t* page_begin;     // [num_sequences + 1]: first block of the sequence in block_table, which
                           // ends at the last of them
  int32_t* first_partial;  // part p of row i of the sequence has the results first_partial + i *
                           // parts + p, with parts = num_positions / part_size, rounded up
};

// Each tile of each of the sequences with each part of the positions that the sequence has, the
// last first: those of a chunk see the most. One launch.
PagedTiles ListPagedTiles(const RowBatch& rows, const PagedPart& part, Arena& arena, Queue& queue);

}  // namespace deltaserve::cuda
