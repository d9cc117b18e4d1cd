// The arrays that FlashInfer's attention reads, and what is done with its results, over the shim:
// an attention of the host's stands in for the library's.

#include "kernels/cuda/paged_tiles.h"

#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "gmock/gmock.h"
#include "kernels/cuda/gated_merge.h"
#include "kernels/cuda/launch.h"
#include "tests/kernels/batch_test.h"

namespace deltaserve::cuda {
namespace {

constexpr int64_t kSlots = 300;
constexpr int64_t kMaxBlocks = 24;

TensorView ViewOf(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kI32, shape};
}

// A batch in memory of the host, which kernels over the shim may read.
struct HostBatch {
  explicit HostBatch(const BatchSpec& spec) : sequences(spec.sequences()) {
    row_begin = {0};
    for (size_t s = 0; s < sequences.size(); ++s) {
      slot.push_back(static_cast<int32_t>(kSlots - 1 - static_cast<int64_t>(s)));
      for (int64_t i = 0; i < sequences[s].rows; ++i) {
        positions.push_back(static_cast<int32_t>(sequences[s].start + i));
        row_sequence.push_back(static_cast<int32_t>(s));
      }
      row_begin.push_back(static_cast<int32_t>(positions.size()));
    }
    const auto n = static_cast<int64_t>(positions.size());
    const auto count = static_cast<int64_t>(sequences.size());
    batch.num_rows = n;
    batch.num_sequences = count;
    batch.num_decode = static_cast<int64_t>(spec.decodes.size());
    batch.num_decode_rows = row_begin[spec.decodes.size()];
    batch.positions = ViewOf(positions, {n});
    batch.row_sequence = ViewOf(row_sequence, {n});
    batch.row_begin = ViewOf(row_begin, {count + 1});
    batch.slot = ViewOf(slot, {count});
    batch.block_table = TensorView(nullptr, DType::kI32, {kSlots, kMaxBlocks});
  }
  HostBatch(const HostBatch&) = delete;
  HostBatch& operator=(const HostBatch&) = delete;

  // Its decodes or its chunks.
  PagedPart Part(bool chunks, int64_t group, int64_t tile_queries, int64_t extra_items) const {
    return {.first_sequence = chunks ? batch.num_decode : 0,
            .end_sequence = chunks ? batch.num_sequences : batch.num_decode,
            .first_row = chunks ? batch.num_decode_rows : 0,
            .num_rows = chunks ? batch.num_rows - batch.num_decode_rows : batch.num_decode_rows,
            .group = group,
            .tile_queries = tile_queries,
            .extra_items = extra_items,
            .most_items = kSlots + batch.num_rows * group + extra_items,
            .most_partials = 0};
  }
  int64_t Seen(int64_t sequence) const {
    const SequenceSpec& s = sequences[static_cast<size_t>(sequence)];
    return s.start + s.rows;
  }

  std::vector<SequenceSpec> sequences;
  std::vector<int32_t> positions, row_sequence, row_begin, slot;
  RowBatch batch;
};

struct TilesCase {
  const char* name;
  BatchSpec spec;
  bool chunks;
  int64_t group;
  int64_t tile_queries;
  int64_t extra_items;
};

std::vector<TilesCase> Cases() {
  const std::vector<SequenceSpec> many(300, {.rows = 1, .start = 700});
  return {{"one_token", {{{1, 0}}, {}}, false, 6, 16, 4},
          {"ends_of_units", {{{1, 127}, {1, 128}, {1, 511}}, {}}, false, 4, 16, 9},
          {"one_long_among_short", {{{1, 5}, {1, 1500}, {1, 3}}, {{2, 64}}}, false, 8, 16, 8},
          {"many_heads", {{{1, 900}, {3, 20}}, {}}, false, 40, 16, 11},
          {"rows_to_verify", {{{4, 300}, {5, 62}}, {}}, false, 6, 16, 6},
          {"more_sequences_than_threads", {many, {}}, false, 2, 16, 300},
          {"chunks_uncut", {{{1, 9}}, {{130, 0}, {3, 640}}}, true, 3, 64, 0},
          {"chunks_cut", {{{2, 9}, {1, 0}}, {{70, 1024}, {1, 0}}}, true, 5, 64, 7}};
}

class PagedTilesTest : public testing::TestWithParam<TilesCase> {
 protected:
  PagedTilesTest()
      : in_(GetParam().spec),
        part_(in_.Part(
            GetParam().chunks, GetParam().group, GetParam().tile_queries, GetParam().extra_items)),
        tiles_(ListPagedTiles(in_.batch, part_, arena_, queue_)) {
    queue_.Run();
  }

  int64_t Parts(int64_t sequence) const {
    return (in_.Seen(sequence) + *tiles_.part_size - 1) / *tiles_.part_size;
  }

  Arena arena_;
  Queue queue_{5};
  HostBatch in_;
  PagedPart part_;
  PagedTiles tiles_;
};

TEST_P(PagedTilesTest, EachTileMeetsEachPartOnce) {
  std::map<std::tuple<int64_t, int64_t, int64_t>, int> expected;
  for (int64_t s = part_.first_sequence; s < part_.end_sequence; ++s) {
    const int64_t queries = in_.sequences[static_cast<size_t>(s)].rows * part_.group;
    for (int64_t first = 0; first < queries; first += part_.tile_queries) {
      for (int64_t p = 0; p < Parts(s); ++p) ++expected[{s, first / part_.tile_queries, p}];
    }
  }
  std::map<std::tuple<int64_t, int64_t, int64_t>, int> found;
  std::tuple<int64_t, int64_t, int64_t> before = {in_.batch.num_sequences, 0, 0};
  for (int64_t i = 0; i < tiles_.capacity; ++i) {
    if (!tiles_.valid[i]) continue;
    const std::tuple<int64_t, int64_t, int64_t> item = {tiles_.sequence[i], tiles_.query_tile[i],
                                                        tiles_.part[i]};
    EXPECT_LT(item, before) << i;
    before = item;
    ++found[item];
  }
  EXPECT_EQ(found, expected);
}

TEST_P(PagedTilesTest, PartsAreAsSmallAsTheItemsAllow) {
  const int64_t extra = GetParam().extra_items;
  if (extra == 0) {
    for (int64_t s = part_.first_sequence; s < part_.end_sequence; ++s) EXPECT_EQ(Parts(s), 1);
    return;
  }
  EXPECT_EQ(*tiles_.part_size % kPartUnit, 0);
  int64_t work = 0;
  for (int64_t s = part_.first_sequence; s < part_.end_sequence; ++s) {
    const int64_t queries = in_.sequences[static_cast<size_t>(s)].rows * part_.group;
    work += (queries + part_.tile_queries - 1) / part_.tile_queries *
            ((in_.Seen(s) + kPartUnit - 1) / kPartUnit);
  }
  EXPECT_GE(extra * (*tiles_.part_size / kPartUnit), work);
  EXPECT_LT(extra * (*tiles_.part_size / kPartUnit - 1), work);
}

TEST_P(PagedTilesTest, SequencesKeepTheirPagesAndHavePartialsOfTheirOwn) {
  int64_t partials = 0;
  for (int64_t s = part_.first_sequence; s < part_.end_sequence; ++s) {
    EXPECT_EQ(tiles_.num_positions[s], in_.Seen(s)) << s;
    EXPECT_EQ(tiles_.page_begin[s], in_.slot[static_cast<size_t>(s)] * kMaxBlocks) << s;
    EXPECT_EQ(tiles_.first_partial[s], partials) << s;
    partials += in_.sequences[static_cast<size_t>(s)].rows * Parts(s);
  }
  EXPECT_EQ(tiles_.page_begin[part_.end_sequence], kSlots * kMaxBlocks);
  // What the caller has room for.
  EXPECT_LE(partials * part_.group, tiles_.capacity * part_.tile_queries);
}

INSTANTIATE_TEST_SUITE_P(Cases,
                         PagedTilesTest,
                         testing::ValuesIn(Cases()),
                         [](const auto& param_info) { return param_info.param.name; });

RowBatch Counts(int64_t decodes, int64_t decode_rows, int64_t chunks, int64_t chunk_rows) {
  RowBatch rows;
  rows.num_decode = decodes;
  rows.num_decode_rows = decode_rows;
  rows.num_sequences = decodes + chunks;
  rows.num_rows = decode_rows + chunk_rows;
  rows.block_table = TensorView(nullptr, DType::kI32, {kSlots, kMaxBlocks});
  return rows;
}

// Scratch is what the largest step takes: more of it is a failed check in a step.
TEST(PagedPartTest, NoSmallerStepNeedsMoreScratch) {
  constexpr int64_t kRows = 2000;
  for (const int64_t heads : {1, 4, 6, 24, 40}) {
    for (const int64_t kv_heads : {1, 4}) {
      const int64_t fill = 264 / kv_heads;
      const int64_t all = heads * kv_heads;
      const PagedPart most_chunk = ChunkPart(Counts(0, 0, 1, kRows), all, kv_heads, fill);
      const PagedPart most_decode = DecodePart(Counts(kSlots, kSlots, 0, 0), all, kv_heads, fill);
      for (const int64_t sequences : {1, 7, 100, 300}) {
        for (const int64_t rows : {300, 301, 700, 2000}) {
          const PagedPart part = ChunkPart(Counts(0, 0, sequences, rows), all, kv_heads, fill);
          EXPECT_LE(part.most_items, most_chunk.most_items);
          EXPECT_LE(part.most_partials, most_chunk.most_partials);
          EXPECT_LE(part.num_tiles() + part.extra_items, part.most_items);
          if (part.extra_items > 0) {
            EXPECT_LE((part.num_tiles() + fill) * 64 * kv_heads, part.most_partials);
          }
        }
        const PagedPart part = DecodePart(Counts(sequences, sequences, 0, 0), all, kv_heads, fill);
        EXPECT_LE(part.most_items, most_decode.most_items);
        EXPECT_LE(part.most_partials, most_decode.most_partials);
        EXPECT_LE(part.num_tiles() + part.extra_items, part.most_items);
      }
    }
  }
}

// Of rows and heads, gate and all: out, by a softmax over all positions at once.
class GatedMergeTest : public testing::Test {
 protected:
  static constexpr int kHeads = 2;
  static constexpr int64_t kFirstRow = 1;
  // The first sequence is another call's.
  GatedMergeTest()
      : in_({{{1, 3}, {2, 1400}, {1, 200}}, {}}),
        rows_(static_cast<size_t>(in_.batch.num_rows)),
        qg_(rows_ * kHeads * 2 * kHeadDim),
        out_(rows_ * kHeads * kHeadDim, ToBf16(7.0F)) {
    for (bf16& x : qg_) x = ToBf16(normal_(rng_));
    p_ = {.q = nullptr,
          .qg = qg_.data(),
          .k_cache = nullptr,
          .v_cache = nullptr,
          .out = out_.data(),
          .positions = in_.positions.data(),
          .row_sequence = in_.row_sequence.data(),
          .row_begin = in_.row_begin.data(),
          .slot = nullptr,
          .block_table = nullptr,
          .max_blocks = 0,
          .num_heads = kHeads,
          .num_kv_heads = 1};
  }

  float GateOf(size_t index, int column) const {
    const float gate = ToFloat(qg_[(2 * index + 1) * kHeadDim + static_cast<size_t>(column)]);
    return 1.0F / (1.0F + std::exp(-gate));
  }

  Rng rng_{77};
  std::normal_distribution<float> normal_{0, 1};
  Arena arena_;
  Queue queue_{9};
  HostBatch in_;
  size_t rows_;
  std::vector<bf16> qg_, out_;
  AttentionParams p_;
};

TEST_F(GatedMergeTest, PartsMakeOneSoftmax) {
  PagedPart part = in_.Part(false, kHeads, 16, 5);
  part.first_sequence = 1;
  part.first_row = kFirstRow;
  part.num_rows -= kFirstRow;
  const PagedTiles tiles = ListPagedTiles(in_.batch, part, arena_, queue_);
  queue_.Run();
  ASSERT_LT(*tiles.part_size, 1400);
  std::vector<bf16> values(size_t{60} * kHeads * kHeadDim, ToBf16(NAN));
  std::vector<float> sums(size_t{60} * kHeads, NAN);
  std::vector<float> expected;
  for (size_t row = kFirstRow; row < rows_; ++row) {
    const auto sequence = static_cast<size_t>(in_.row_sequence[row]);
    const int parts = (tiles.num_positions[sequence] + *tiles.part_size - 1) / *tiles.part_size;
    const int first =
        tiles.first_partial[sequence] + (static_cast<int>(row) - in_.row_begin[sequence]) * parts;
    for (size_t head = 0; head < kHeads; ++head) {
      std::vector<double> all(kHeadDim, 0);
      double total = 0;
      for (int i = 0; i < parts; ++i) {
        // The row sees none of the last part, as an earlier row may.
        const bool seen = i + 1 < parts || row != kFirstRow;
        const float log2_sum = seen ? 4 * normal_(rng_) : -INFINITY;
        const double weight = std::exp2(static_cast<double>(log2_sum));
        const size_t at = static_cast<size_t>(first + i) * kHeads + head;
        sums[at] = log2_sum;
        total += weight;
        for (size_t column = 0; column < kHeadDim; ++column) {
          const bf16 value = ToBf16(seen ? normal_(rng_) : 0.0F);
          values[at * kHeadDim + column] = value;
          all[column] += weight * static_cast<double>(ToFloat(value));
        }
      }
      for (int column = 0; column < kHeadDim; ++column) {
        expected.push_back(static_cast<float>(all[static_cast<size_t>(column)] / total) *
                           GateOf(row * kHeads + head, column));
      }
    }
  }
  MergeGated(p_, part, tiles, {.values = values.data(), .log2_sums = sums.data()}, queue_);
  queue_.Run();
  std::vector<float> actual;
  for (const bf16 x : out_) actual.push_back(ToFloat(x));
  const int64_t width = int64_t{kHeads} * kHeadDim;
  ExpectClose(RowsOf(actual, width, kFirstRow, static_cast<int64_t>(rows_) - kFirstRow), expected,
              kBF16Rounding);
  EXPECT_THAT(RowsOf(actual, width, 0, 1), testing::Each(7.0F)) << "a row of another call";
}

TEST_F(GatedMergeTest, GatesOnlyItsRows) {
  Gate(p_, {.first_row = kFirstRow, .num_rows = 2}, queue_);
  queue_.Run();
  std::vector<float> actual, expected;
  for (size_t i = 0; i < out_.size(); ++i) {
    actual.push_back(ToFloat(out_[i]));
    const size_t index = i / kHeadDim;
    const bool gated = index / kHeads == 1 || index / kHeads == 2;
    expected.push_back(gated ? 7.0F * GateOf(index, static_cast<int>(i % kHeadDim)) : 7.0F);
  }
  ExpectClose(actual, expected, kBF16Rounding);
}

}  // namespace
}  // namespace deltaserve::cuda
