#pragma once

// Which ids of a row of logits top_k, then top_p keep: all that come before one place in the order
// of row_order.h. Found without a sort: a histogram over the whole row by weight, then digits of
// the place within the one bin where the cut lies. Exact; sums are of integers, so a row's cut
// depends on nothing but the row.

#include "kernels/tensor/arena.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve::cuda {

class Queue;

// What is to be kept of the rows; on the device, one entry a row. Without `temperature` all rows
// have temperature 1 and top_k = `first`, and the others are not read.
struct RowFilters {
  const float* temperature = nullptr;
  const int32_t* top_k = nullptr;
  const float* top_p = nullptr;
  const float* min_p = nullptr;
  int32_t first = 0;
};

// The cut of one row. Of a row without filters, or greedy, all is kept and the rest but `listed` is
// not set.
struct RowCut {
  uint64_t last = ~uint64_t{0};  // the place (OrderOf(logit) << 32 | id) of the last id kept
  uint64_t weight = 0;           // of the whole row, in units of row_order.h
  float max = 0;                 // the largest logit; -inf where none is a number
  int32_t listed = -1;  // number of entries of the row's list, which has all that is kept (and
                        // more); -1: too many, look at the row
};

// Memory of FindRowCuts for up to `rows` rows of `width`.
struct RowCuts {
  RowCuts(Arena& arena, int64_t rows, int64_t width);
  // What a row takes of the arena.
  static int64_t BytesOfRow(int64_t width);

  RowCut* cut;         // [rows]
  uint64_t* list;      // [rows, capacity]: places
  int64_t capacity;    // depends on width alone
  float* part_max;     // [rows, kMaxParts]
  int32_t* bin_count;  // [rows, kBins]
  uint64_t* bin_weight;
  int32_t* next;  // [rows]: entries of the list while it grows
};

// How many blocks share a row of `num_tokens`, and how many threads each has.
struct RowGrid {
  RowGrid(int64_t rows, int64_t num_tokens, const Queue& queue);

  int parts;
  int threads;
};

// logits: f32 [rows, width] on the device, of which num_tokens <= width count. min_p is not in the
// cut, but what it does not keep may be missing from the list. Only enqueues.
void FindRowCuts(TensorView logits,
                 int64_t num_tokens,
                 const RowFilters& filters,
                 const RowCuts& cuts,
                 Queue& queue);

}  // namespace deltaserve::cuda
