#pragma once

// Batches of sequences for the tests of ops that read RowBatch.

#include <numeric>
#include <vector>

#include "tests/kernels/op_test.h"

namespace deltaserve {

// The head sizes of all published models. Devices may have no others.
inline constexpr ModelShape kPublishedShape{.head_dim = 256,
                                            .rotary_dim = 64,
                                            .linear_key_head_dim = 128,
                                            .linear_value_head_dim = 128,
                                            .linear_conv_kernel_dim = 4};

// One sequence of a batch: `rows` rows from position `start`.
struct SequenceSpec {
  int64_t rows = 1;
  int64_t start = 0;
};

// Host form of a batch: decode sequences first.
struct BatchSpec {
  std::vector<SequenceSpec> decodes;
  std::vector<SequenceSpec> chunks;

  std::vector<SequenceSpec> sequences() const {
    std::vector<SequenceSpec> all = decodes;
    all.insert(all.end(), chunks.begin(), chunks.end());
    return all;
  }
  int64_t num_rows() const {
    int64_t n = 0;
    for (const SequenceSpec& s : sequences()) n += s.rows;
    return n;
  }
};

// Sequence s is slot `slots[s]`; slots own blocks in an order that is not that of positions.
struct PagedLayout {
  int64_t num_slots = 0;
  int64_t max_blocks = 0;
  std::vector<int32_t> table;  // [num_slots, max_blocks]

  int64_t num_blocks() const { return num_slots * max_blocks + 1; }
};

inline PagedLayout MakeLayout(int64_t num_slots, int64_t max_blocks) {
  PagedLayout layout{.num_slots = num_slots, .max_blocks = max_blocks, .table = {}};
  const int64_t n = num_slots * max_blocks;
  for (int64_t i = 0; i < n; ++i) layout.table.push_back(static_cast<int32_t>(n - i));
  return layout;
}

// slots[s] and states[s] of each sequence of `spec`.
inline RowBatch PutBatch(Session& session,
                         const BatchSpec& spec,
                         const std::vector<int32_t>& slots,
                         const PagedLayout& layout) {
  const auto sequences = spec.sequences();
  std::vector<int32_t> positions;
  std::vector<int32_t> row_sequence;
  std::vector<int32_t> row_begin = {0};
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (int64_t i = 0; i < sequences[s].rows; ++i) {
      positions.push_back(static_cast<int32_t>(sequences[s].start + i));
      row_sequence.push_back(static_cast<int32_t>(s));
    }
    row_begin.push_back(static_cast<int32_t>(positions.size()));
  }
  int64_t decode_rows = 0;
  for (const SequenceSpec& s : spec.decodes) decode_rows += s.rows;
  RowBatch batch;
  batch.num_rows = spec.num_rows();
  batch.num_sequences = static_cast<int64_t>(sequences.size());
  batch.num_decode = static_cast<int64_t>(spec.decodes.size());
  batch.num_decode_rows = decode_rows;
  batch.positions = session.Put(positions);
  batch.row_sequence = session.Put(row_sequence);
  batch.row_begin = session.Put(row_begin);
  batch.slot = session.Put(slots);
  batch.state = session.Put(slots);
  batch.block_table = session.Put(layout.table, {layout.num_slots, layout.max_blocks});
  return batch;
}

// Slots 0, 1, ... of a batch, last sequence in slot 0.
inline std::vector<int32_t> ReversedSlots(const BatchSpec& spec) {
  std::vector<int32_t> slots(spec.sequences().size());
  std::iota(slots.rbegin(), slots.rend(), 0);
  return slots;
}

// step * i + phase through a sine: the inputs of tests with literal results.
inline std::vector<float> Wave(int64_t n, double step, double phase, double scale = 1.0) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(static_cast<float>(scale * std::sin(step * static_cast<double>(i) + phase)));
  }
  return values;
}

}  // namespace deltaserve
