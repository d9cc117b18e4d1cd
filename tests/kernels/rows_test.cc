// BuildRows, Embed, GatherRows and StoreSampled.

#include <bit>
#include <limits>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

class RowsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

RowBatch NewBatch(Session& s, int64_t rows, int64_t sequences, int64_t decodes) {
  RowBatch batch;
  batch.num_rows = rows;
  batch.num_sequences = sequences;
  batch.num_decode = decodes;
  batch.num_decode_rows = decodes;
  batch.ids = s.NewI32({rows});
  batch.positions = s.NewI32({rows});
  batch.row_sequence = s.NewI32({rows});
  batch.row_begin = s.NewI32({sequences + 1});
  batch.slot = s.NewI32({sequences});
  batch.state = s.NewI32({sequences});
  return batch;
}

TEST_P(RowsTest, BuildRowsTakesDecodesFromSlotsAndChunksFromThePlan) {
  Session s(*device_);
  RowBatch batch = NewBatch(s, 7, 4, 2);
  s.ops().BuildRows({.num_decode = 2,
                     .num_chunks = 2,
                     .slot_length = s.Put(std::vector<int32_t>{10, 64, 99, 0}),
                     .slot_last_token = s.Put(std::vector<int32_t>{500, 501, 502, 503}),
                     .slot_state = s.Put(std::vector<int32_t>{7, 6, 5, 4}),
                     .sequence_slot = s.Put(std::vector<int32_t>{2, 0, 3, 1}),
                     .chunk_start = s.Put(std::vector<int32_t>{0, 64}),
                     .chunk_begin = s.Put(std::vector<int32_t>{0, 3, 5}),
                     .chunk_ids = s.Put(std::vector<int32_t>{11, 12, 13, 21, 22}),
                     .out = &batch});
  EXPECT_THAT(s.Get<int32_t>(batch.ids), ElementsAre(502, 500, 11, 12, 13, 21, 22));
  EXPECT_THAT(s.Get<int32_t>(batch.positions), ElementsAre(99, 10, 0, 1, 2, 64, 65));
  EXPECT_THAT(s.Get<int32_t>(batch.row_sequence), ElementsAre(0, 1, 2, 2, 2, 3, 3));
  EXPECT_THAT(s.Get<int32_t>(batch.row_begin), ElementsAre(0, 1, 2, 5, 7));
  EXPECT_THAT(s.Get<int32_t>(batch.slot), ElementsAre(2, 0, 3, 1));
  EXPECT_THAT(s.Get<int32_t>(batch.state), ElementsAre(5, 7, 4, 6));
}

// More new blocks than rows, on both sides of a block of threads.
TEST_P(RowsTest, BuildRowsPutsNewBlocksIntoTheTable) {
  Session s(*device_);
  std::vector<int32_t> expected(size_t{3} * 400);
  std::iota(expected.begin(), expected.end(), 5000);
  RowBatch batch = NewBatch(s, 1, 1, 1);
  batch.block_table = s.Put(expected, {3, 400});
  std::vector<int32_t> entries = {399, 1199};
  for (int32_t i = 401; i < 701; ++i) entries.push_back(i);
  std::vector<int32_t> blocks;
  for (const int32_t entry : entries) {
    blocks.push_back(3 * entry + 1);
    expected[static_cast<size_t>(entry)] = blocks.back();
  }
  BuildRowsArgs args = {.num_decode = 1,
                        .slot_length = s.Put(std::vector<int32_t>{10, 64, 99}),
                        .slot_last_token = s.Put(std::vector<int32_t>{500, 501, 502}),
                        .slot_state = s.Put(std::vector<int32_t>{7, 6, 5}),
                        .sequence_slot = s.Put(std::vector<int32_t>{2}),
                        .chunk_start = s.NewI32({0}),
                        .chunk_begin = s.Put(std::vector<int32_t>{0}),
                        .chunk_ids = s.NewI32({0}),
                        .new_entry = s.Put(entries),
                        .new_block = s.Put(blocks),
                        .out = &batch};
  s.ops().BuildRows(args);
  EXPECT_EQ(s.Get<int32_t>(batch.block_table), expected);
  EXPECT_THAT(s.Get<int32_t>(batch.ids), ElementsAre(502));
  // No rows, as of a plan that only opens or grows slots.
  RowBatch none = NewBatch(s, 0, 0, 0);
  none.block_table = batch.block_table;
  args.num_decode = 0;
  args.sequence_slot = s.NewI32({0});
  args.new_entry = s.Put(std::vector<int32_t>{800});
  args.new_block = s.Put(std::vector<int32_t>{9});
  args.out = &none;
  expected[800] = 9;
  s.ops().BuildRows(args);
  EXPECT_EQ(s.Get<int32_t>(none.block_table), expected);
}

TEST_P(RowsTest, BuildRowsOfNothingIsEmpty) {
  Session s(*device_);
  RowBatch batch = NewBatch(s, 0, 0, 0);
  s.ops().BuildRows({.slot_length = s.NewI32({1}),
                     .slot_last_token = s.NewI32({1}),
                     .slot_state = s.NewI32({1}),
                     .sequence_slot = s.NewI32({0}),
                     .chunk_start = s.NewI32({0}),
                     .chunk_begin = s.Put(std::vector<int32_t>{0}),
                     .chunk_ids = s.NewI32({0}),
                     .out = &batch});
  EXPECT_THAT(s.Get<int32_t>(batch.row_begin), ElementsAre(0));
}

int32_t Bits(float value) { return std::bit_cast<int32_t>(value); }

TEST_P(RowsTest, StoreSampledMergesRanksAndPutsForcedIdsInPlace) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  Session s(*device_);
  // Four merged rows of two ranks: the second is larger, both are equal, none, a NaN on the first.
  const std::vector<int32_t> pairs = {
      Bits(-3), Bits(2), Bits(kNone), Bits(kNan), 10, 11, INT32_MAX, INT32_MAX,
      Bits(-1), Bits(2), Bits(kNone), Bits(-7),   90, 91, INT32_MAX, 93};
  const TensorView id = s.Put(std::vector<int32_t>{0, 0, 0, 0, 55, 56});
  const TensorView last = s.Put(std::vector<int32_t>{100, 101, 102, 103, 104, 105, 106, 107});
  s.ops().StoreSampled({.pairs = s.Put(pairs, {2, 2, 4}),
                        .forced = s.Put(std::vector<int32_t>{-1, -1, -1, -1, 77, -1}),
                        .slot = s.Put(std::vector<int32_t>{6, 1, 5, 0, 3, 2}),
                        .id = id,
                        .slot_last_token = last});
  EXPECT_THAT(s.Get<int32_t>(id), ElementsAre(90, 11, -1, 93, 77, 56));
  EXPECT_THAT(s.Get<int32_t>(last), ElementsAre(93, 11, 56, 77, 104, -1, 90, 107));
}

TEST_P(RowsTest, StoreSampledForcesMergedRowsToo) {
  Session s(*device_);
  const TensorView id = s.NewI32({1});
  const TensorView last = s.Put(std::vector<int32_t>{100});
  s.ops().StoreSampled({.pairs = s.Put(std::vector<int32_t>{Bits(1), 9}, {1, 2, 1}),
                        .forced = s.Put(std::vector<int32_t>{4}),
                        .slot = s.Put(std::vector<int32_t>{0}),
                        .id = id,
                        .slot_last_token = last});
  EXPECT_THAT(s.Get<int32_t>(id), ElementsAre(4));
  EXPECT_THAT(s.Get<int32_t>(last), ElementsAre(4));
}

TEST_P(RowsTest, EmbedGivesZerosForIdsThatOtherRanksHold) {
  Session s(*device_);
  const std::vector<float> table = {1, 2, 3, 4, 5, 6};
  for (const bool narrow : {false, true}) {
    const TensorView out = s.NewReduction({4, 2});
    s.ops().Embed({.ids = s.Put(std::vector<int32_t>{10, 12, 9, 13}),
                   .table = narrow ? s.Put(ToBFloat16s(table), {3, 2}) : s.Put(table, {3, 2}),
                   .first_row = 10,
                   .out = out});
    EXPECT_THAT(s.Floats(out), ElementsAre(1, 2, 5, 6, 0, 0, 0, 0));
  }
}

TEST_P(RowsTest, EmbedKeepsEveryBitOfBf16) {
  Session s(*device_);
  Rng rng(1);
  const auto table = ToBFloat16s(Normal(rng, int64_t{5} * 1025));
  const TensorView out = s.NewReduction({1, 1025});
  s.ops().Embed(
      {.ids = s.Put(std::vector<int32_t>{4}), .table = s.Put(table, {5, 1025}), .out = out});
  const auto values = s.Floats(out);
  for (size_t i = 0; i < 1025; ++i) ASSERT_EQ(values[i], ToFloat(table[size_t{4} * 1025 + i]));
}

TEST_P(RowsTest, GatherRowsTakesRowsInTheGivenOrder) {
  Session s(*device_);
  const TensorView x = s.PutAct({0, 1, 10, 11, 20, 21}, {3, 2});
  const TensorView out = s.NewAct({4, 2});
  s.ops().GatherRows({.x = x, .rows = s.Put(std::vector<int32_t>{2, 0, 2, 1}), .out = out});
  EXPECT_THAT(s.Floats(out), ElementsAre(20, 21, 0, 1, 20, 21, 10, 11));
}

INSTANTIATE_TEST_SUITE_P(Devices, RowsTest, testing::ValuesIn(AllDevicesAndShim()));

}  // namespace
}  // namespace deltaserve
