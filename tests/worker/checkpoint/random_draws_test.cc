#include "worker/checkpoint/random_draws.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference_device.h"
#include "worker/checkpoint/random_values.h"

namespace deltaserve {
namespace {

// Of two bytes an element.
ByteRange Elements(int stored, int64_t from, int64_t to, int64_t count) {
  return {.stored = stored,
          .source_offset = 2 * from,
          .destination_offset = 2 * to,
          .bytes = 2 * count};
}

// What the draws write to `count` elements, as bits; 0 where none does.
std::vector<uint16_t> Drawn(std::vector<RandomDraw> draws, size_t count) {
  const auto device = reference::CreateReferenceDevice();
  std::vector<uint16_t> out(count);
  for (RandomDraw& draw : draws) {
    draw.args.out = TensorView(out.data() + draw.to, DType::kBF16, {draw.rows, draw.columns});
    device->ops().FillNormal(draw.args);
  }
  return out;
}

// The same by FillRandom, a range at a time.
std::vector<uint16_t> Filled(const std::vector<StoredTensor>& stored,
                             const std::vector<ByteRange>& ranges,
                             size_t count) {
  std::vector<uint16_t> out(count);
  for (const ByteRange& range : ranges) {
    FillRandom(1, stored[static_cast<size_t>(range.stored)], range.source_offset / 2,
               range.bytes / 2, DType::kBF16, out.data() + range.destination_offset / 2);
  }
  return out;
}

StoredTensor Tensor(std::string name, std::vector<RowChange> changes = {}) {
  return {.name = std::move(name),
          .shape = {10, 6},
          .values = {.mean = 0.5F, .deviation = 2, .changes = std::move(changes)}};
}

struct Case {
  const char* what;
  std::vector<StoredTensor> stored;
  std::vector<ByteRange> ranges;
  size_t num_draws;
};

TEST(RandomDrawsTest, AreWhatTheHostDrawsInFewCalls) {
  std::vector<ByteRange> columns;
  for (int64_t row = 0; row < 10; ++row) columns.push_back(Elements(0, 6 * row + 2, 3 * row, 3));
  const std::vector<Case> cases = {
      {"all of it", {Tensor("a")}, {Elements(0, 0, 0, 60)}, 1},
      {"columns", {Tensor("a")}, columns, 1},
      {"runs of one length at equal distances, then another distance",
       {Tensor("a")},
       {Elements(0, 0, 0, 4), Elements(0, 20, 4, 4), Elements(0, 40, 8, 4), Elements(0, 50, 12, 4)},
       2},
      {"runs of two lengths", {Tensor("a")}, {Elements(0, 0, 0, 4), Elements(0, 20, 4, 5)}, 2},
      {"a gap", {Tensor("a")}, {Elements(0, 0, 0, 4), Elements(0, 20, 10, 4)}, 2},
      {"two tensors",
       {Tensor("a"), Tensor("b")},
       {Elements(0, 6, 0, 12), Elements(1, 6, 12, 12)},
       2},
      // Rows 0-2, 3-4, 5, 6, 7-9, of which the last change of a row is the one that counts.
      {"changes", {Tensor("a", {{3, 6, 0.5F, 1}, {5, 7, 0, 7}})}, {Elements(0, 0, 0, 60)}, 4},
      {"columns of changed rows", {Tensor("a", {{3, 5, 0.5F, 1}})}, columns, 3},
      {"nothing", {Tensor("a")}, {}, 0}};
  for (const Case& c : cases) {
    const std::vector<RandomDraw> draws = PlanDraws(1, c.stored, c.ranges);
    EXPECT_EQ(Drawn(draws, 60), Filled(c.stored, c.ranges, 60)) << c.what;
    EXPECT_EQ(draws.size(), c.num_draws) << c.what;
  }
}

TEST(RandomDrawsTest, OtherKindsAreTheHosts) {
  StoredTensor decay = Tensor("A_log");
  decay.values.kind = RandomValues::Kind::kDecay;
  EXPECT_TRUE(PlanDraws(1, {decay}, {Elements(0, 0, 0, 60)}).empty());
}

}  // namespace
}  // namespace deltaserve
