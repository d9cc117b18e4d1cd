#include "kernels/cpu/rows.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "kernels/cpu/parallel.h"

namespace deltaserve::cpu {

void BuildRows(const BuildRowsArgs& args) {
  RowBatch& out = *args.out;
  const int64_t num_sequences = args.num_decode + args.num_chunks;
  DS_CHECK_EQ(out.num_sequences, num_sequences);
  const int32_t* slot_length = args.slot_length.as<int32_t>();
  const int32_t* last_token = args.slot_last_token.as<int32_t>();
  const int32_t* slot_state = args.slot_state.as<int32_t>();
  const int32_t* sequence_slot = args.sequence_slot.as<int32_t>();
  int32_t* ids = out.ids.as<int32_t>();
  int32_t* positions = out.positions.as<int32_t>();
  int32_t* row_sequence = out.row_sequence.as<int32_t>();
  int32_t* row_begin = out.row_begin.as<int32_t>();
  int64_t row = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    const int32_t slot = sequence_slot[s];
    DS_CHECK(slot >= 0 && slot < args.slot_length.numel()) << "slot " << slot;
    out.slot.as<int32_t>()[s] = slot;
    out.state.as<int32_t>()[s] = slot_state[slot];
    row_begin[s] = static_cast<int32_t>(row);
    if (s < args.num_decode) {
      DS_CHECK_LT(row, out.num_rows);
      ids[row] = last_token[slot];
      positions[row] = slot_length[slot];
      row_sequence[row++] = static_cast<int32_t>(s);
      continue;
    }
    const int64_t chunk = s - args.num_decode;
    const int32_t* begin = args.chunk_begin.as<int32_t>() + chunk;
    DS_CHECK_LE(row + begin[1] - begin[0], out.num_rows);
    for (int32_t i = begin[0]; i < begin[1]; ++i, ++row) {
      ids[row] = args.chunk_ids.as<int32_t>()[i];
      positions[row] = args.chunk_start.as<int32_t>()[chunk] + (i - begin[0]);
      row_sequence[row] = static_cast<int32_t>(s);
    }
  }
  DS_CHECK_EQ(row, out.num_rows);
  row_begin[num_sequences] = static_cast<int32_t>(row);
  DS_CHECK_EQ(args.new_entry.numel(), args.new_block.numel());
  for (int64_t i = 0; i < args.new_entry.numel(); ++i) {
    const int32_t entry = args.new_entry.as<int32_t>()[i];
    DS_CHECK(entry >= 0 && entry < out.block_table.numel())
        << "entry " << entry << " of " << out.block_table.ToString();
    out.block_table.as<int32_t>()[entry] = args.new_block.as<int32_t>()[i];
  }
}

void Embed(const EmbedArgs& args, ThreadPool& pool) {
  const int64_t hidden = args.table.dim(1);
  const int64_t local_rows = args.table.dim(0);
  DS_CHECK(args.out.dim(0) == args.ids.numel() && args.out.dim(1) == hidden)
      << args.ids.ToString() << " to " << args.out.ToString();
  const int32_t* ids = args.ids.as<int32_t>();
  float* out = args.out.as<float>();
  ParallelFor(pool, args.ids.numel(), 1, hidden, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t local = ids[r] - args.first_row;
      float* to = out + r * hidden;
      if (local < 0 || local >= local_rows) {
        std::fill_n(to, hidden, 0.0f);
      } else if (args.table.dtype() == DType::kF32) {
        std::copy_n(args.table.as<float>() + local * hidden, hidden, to);
      } else {
        const BFloat16* from = args.table.as<BFloat16>() + local * hidden;
        for (int64_t i = 0; i < hidden; ++i) to[i] = ToFloat(from[i]);
      }
    }
  });
}

void GatherRows(const GatherRowsArgs& args, ThreadPool& pool) {
  const int64_t width = args.x.dim(1);
  DS_CHECK(args.out.dim(0) == args.rows.numel() && args.out.dim(1) == width)
      << args.rows.ToString() << " to " << args.out.ToString();
  const int32_t* rows = args.rows.as<int32_t>();
  const float* x = args.x.as<float>();
  float* out = args.out.as<float>();
  ParallelFor(pool, args.rows.numel(), 1, width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      DS_CHECK(rows[r] >= 0 && rows[r] < args.x.dim(0))
          << "row " << rows[r] << " of " << args.x.ToString();
      std::copy_n(x + rows[r] * width, width, out + r * width);
    }
  });
}

void StoreSampled(const StoreSampledArgs& args) {
  const int64_t rows = args.id.numel();
  const bool any_merged = args.pairs.numel() > 0;
  const int64_t merged = any_merged ? args.pairs.dim(2) : 0;
  DS_CHECK(args.forced.numel() == rows && args.slot.numel() == rows && merged <= rows)
      << args.forced.ToString() << ", " << args.slot.ToString() << " for " << rows << " rows";
  const int32_t* forced = args.forced.as<int32_t>();
  const int32_t* slot = args.slot.as<int32_t>();
  int32_t* id = args.id.as<int32_t>();
  for (int64_t r = 0; r < rows; ++r) {
    if (r < merged) {
      const int32_t* pairs = args.pairs.as<int32_t>();
      float best = -std::numeric_limits<float>::infinity();
      id[r] = -1;
      for (int64_t rank = 0; rank < args.pairs.dim(0); ++rank, pairs += 2 * merged) {
        const float value = std::bit_cast<float>(pairs[r]);
        if (value > best) {
          best = value;
          id[r] = pairs[merged + r];
        }
      }
    }
    if (forced[r] >= 0) id[r] = forced[r];
    DS_CHECK(slot[r] >= 0 && slot[r] < args.slot_last_token.numel()) << "slot " << slot[r];
    args.slot_last_token.as<int32_t>()[slot[r]] = id[r];
  }
}

}  // namespace deltaserve::cpu
