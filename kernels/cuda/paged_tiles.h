#pragma once

// A work list for attention whose blocks of threads each take a tile of queries and a part of the
// positions that they see: made on the device, as lengths are known there only, in the arrays that
// FlashInfer's kernels read. The host knows how many items there are at most.

#include <cstdint>

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Positions: parts are whole multiples of it.
inline constexpr int kPartUnit = 256;

// Sequences [first_sequence, end_sequence) of a step, which have `num_rows` rows, one at least each.
// A query is a row and one of the `group` query heads of a KV head, heads fastest; a tile has up to
// `tile_queries` queries of one sequence.
struct PagedTilesShape {
  int64_t first_sequence = 0;
  int64_t end_sequence = 0;
  int64_t num_rows = 0;
  int64_t group = 1;
  int64_t tile_queries = 1;

  // Tiles that there can be, whatever rows each sequence has.
  int64_t num_tiles() const;
  // And with as many rows or fewer in any number of sequences up to `num_slots`: for scratch.
  int64_t most_tiles(int64_t num_slots) const;
};

// Device memory of the arena, by number of the sequence in the step where per sequence.
struct PagedTiles {
  int64_t capacity = 0;       // of the arrays of items, no fewer than items
  int32_t* sequence;          // [capacity]
  int32_t* query_tile;        // [capacity], within the sequence
  int32_t* part;              // [capacity]: positions [part * part_size, (part + 1) * part_size)
  bool* valid;                // [capacity]: what else is in an item that is not is undefined
  int32_t* part_size;         // [1]
  int32_t* num_positions;     // that the last row of the sequence sees
  int32_t* page_begin;        // [num_sequences + 1]: first block of the sequence in block_table, which
                              // ends at the last of them
  int32_t* first_partial;     // part p of row i of the sequence has the results first_partial + i *
                              // parts + p, with parts = num_positions / part_size, rounded up
};

// Each tile of each of the sequences with each part of the positions that the sequence has, the last
// first: those of a chunk see the most. Tiles are cut into as many parts as make `extra_items` items
// more at most, all of one size: long sequences into many, short ones into one. 0: none is cut.
// One launch. Memory is taken for `most_items`.
PagedTiles ListPagedTiles(const RowBatch& rows,
                          const PagedTilesShape& shape,
                          int64_t extra_items,
                          int64_t most_items,
                          Arena& arena,
                          Queue& queue);

}  // namespace deltaserve::cuda
