// Penalize and MaskLogits.

#include <limits>

#include "gmock/gmock.h"
#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Entries {
  std::vector<int32_t> row, id, seen, count;
  std::vector<float> bias;
};

std::vector<float> Penalize(Device& device,
                            const std::vector<float>& logits,
                            int64_t rows,
                            const Entries& entries,
                            const std::vector<float>& repetition,
                            const std::vector<float>& frequency,
                            const std::vector<float>& presence) {
  Session s(device);
  const TensorView on_device = s.Put(logits, {rows, static_cast<int64_t>(logits.size()) / rows});
  s.ops().Penalize({.logits = on_device,
                    .row = s.Put(entries.row),
                    .id = s.Put(entries.id),
                    .seen = s.Put(entries.seen),
                    .count = s.Put(entries.count),
                    .bias = s.Put(entries.bias),
                    .repetition = s.Put(repetition),
                    .frequency = s.Put(frequency),
                    .presence = s.Put(presence)});
  return s.Floats(on_device);
}

class EditLogitsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

TEST_P(EditLogitsTest, PenaltiesByHand) {
  // Row 1 alone. Id 0: only a bias. Id 1: above 0 and seen in the prompt. Id 2: below 0, twice in
  // the answer. Id 3: the bias lifts it above 0 before the repetition divides. Id 4: nothing.
  const Entries entries{.row = {1, 1, 1, 1},
                        .id = {0, 1, 2, 3},
                        .seen = {0, 1, 1, 1},
                        .count = {0, 0, 2, 1},
                        .bias = {2, 0, 0, 5}};
  EXPECT_THAT(Penalize(*device_, {9, 9, 9, 9, 9, 1, 4, -1, -3, 7}, 2, entries, {3, 2}, {3, 0.5f},
                       {3, 0.25f}),
              ElementsAre(9, 9, 9, 9, 9, 3, 2, -2 - 1.25f, 1 - 0.75f, 7));
}

TEST_P(EditLogitsTest, PenaltiesAreTheReferencesBitForBit) {
  std::mt19937 random(3);
  constexpr int64_t kRows = 5, kWidth = 301;
  std::uniform_real_distribution<float> uniform(-4, 4);
  std::vector<float> logits(static_cast<size_t>(kRows * kWidth)), repetition(kRows),
      frequency(kRows), presence(kRows);
  for (auto* values : {&logits, &frequency, &presence}) {
    for (float& value : *values) value = uniform(random);
  }
  for (float& value : repetition) value = 0.1f + std::abs(uniform(random));
  Entries entries;
  for (int32_t row = 0; row < kRows; ++row) {
    for (int32_t id = row; id < kWidth; id += 1 + static_cast<int32_t>(random() % 5)) {
      entries.row.push_back(row);
      entries.id.push_back(id);
      entries.seen.push_back(static_cast<int32_t>(random() % 2));
      entries.count.push_back(static_cast<int32_t>(random() % 3));
      entries.bias.push_back(random() % 2 == 0 ? 0 : uniform(random));
    }
  }
  const auto reference = MakeDevice("reference");
  EXPECT_EQ(Penalize(*device_, logits, kRows, entries, repetition, frequency, presence),
            Penalize(*reference, logits, kRows, entries, repetition, frequency, presence));
}

TEST_P(EditLogitsTest, MasksTheRowsThatItNamesAndLeavesIdsBeyondTheWords) {
  Session s(*device_);
  std::vector<float> logits(size_t{3} * 70);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i);
  const TensorView on_device = s.Put(logits, {3, 70});
  const uint32_t kFirst = 0x80000001u, kSecond = 0x00000002u;
  s.ops().MaskLogits({.logits = on_device,
                      .row = s.Put(std::vector<int32_t>{2, 0}),
                      .mask = s.Put(std::vector<uint32_t>{kFirst, kSecond, ~0u, 0u}, {2, 2})});
  const std::vector<float> masked = s.Floats(on_device);
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t row = i / 70, id = i % 70;
    const bool keep = row == 1 || id >= 64 || (row == 0 && id < 32) ||
                      (row == 2 && (id == 0 || id == 31 || id == 33));
    EXPECT_EQ(masked[i], keep ? logits[i] : -kInfinity) << "row " << row << ", id " << id;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices,
                         EditLogitsTest,
                         testing::ValuesIn(DevicesAndShim()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace deltaserve
