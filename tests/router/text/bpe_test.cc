#include "router/text/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deltaserve {
namespace {

using testing::ElementsAre;

std::array<int32_t, 256> Bytes() {
  std::array<int32_t, 256> ids;
  for (int32_t i = 0; i < 256; ++i) ids[static_cast<size_t>(i)] = i;
  return ids;
}

std::vector<int32_t> Encode(const BpeModel& model, std::string_view piece) {
  BpeModel::Scratch scratch;
  std::vector<int32_t> ids;
  model.Encode(piece, &scratch, &ids);
  return ids;
}

TEST(BpeTest, LowestRankFirstThenLeftmost) {
  // bc before ab: "abc" is a, bc. Of two places for aa the left one is taken.
  const BpeModel model(Bytes(), {{'b', 'c', 300}, {'a', 'b', 301}, {'a', 'a', 302}}, {});
  EXPECT_THAT(Encode(model, "abc"), ElementsAre('a', 300));
  EXPECT_THAT(Encode(model, "ab"), ElementsAre(301));
  EXPECT_THAT(Encode(model, "aaa"), ElementsAre(302, 'a'));
  EXPECT_THAT(Encode(model, "aab"), ElementsAre('a', 301));
  EXPECT_THAT(Encode(model, ""), ElementsAre());
}

TEST(BpeTest, ALaterRuleForAPairCounts) {
  const BpeModel model(Bytes(), {{'a', 'b', 300}, {'b', 'c', 301}, {'a', 'b', 300}}, {});
  EXPECT_THAT(Encode(model, "abc"), ElementsAre('a', 301));
}

TEST(BpeTest, AWholePieceIsTakenUnmergedOnlyWhereTheFileSaysSo) {
  const std::vector<MergeRule> merges = {{'a', 'b', 300}};
  EXPECT_THAT(Encode(BpeModel(Bytes(), merges, {{"abc", 400}}), "abc"), ElementsAre(400));
  EXPECT_THAT(Encode(BpeModel(Bytes(), merges, {{"abc", 400}}), "abcd"),
              ElementsAre(300, 'c', 'd'));
  EXPECT_THAT(Encode(BpeModel(Bytes(), merges, {}), "abc"), ElementsAre(300, 'c'));
}

// Every merge adds at most two candidates, so memory tells of work: quadratic code would need far
// more.
TEST(BpeTest, WorkOnALongPieceIsLinearInCandidates) {
  std::vector<MergeRule> merges;
  int32_t last = 'a';
  for (int32_t i = 0; i < 12; ++i) {
    merges.push_back({last, last, 300 + i});
    last = 300 + i;
  }
  const BpeModel model(Bytes(), merges, {});
  BpeModel::Scratch scratch;
  std::vector<int32_t> ids;
  const std::string piece(100'000, 'a');
  model.Encode(piece, &scratch, &ids);
  EXPECT_EQ(ids.size(), 100'000u / 4096 + 4);  // 24 whole, and 1696 = 1024 + 512 + 128 + 32
  EXPECT_LE(scratch.heap.capacity(), 4 * piece.size());
}

}  // namespace
}  // namespace deltaserve
