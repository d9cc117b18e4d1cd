#include "worker/replay/recording.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/process.h"
#include "tests/worker/replay/replay_world.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

// Every field differs from its default and from its neighbours.
Recorded Full() {
  Recorded recorded;
  recorded.header = {.plan_version = PlanVersion(),
                     .build_id = "abc",
                     .numerics = "cpu/abc",
                     .weights_fingerprint = "feed",
                     .model = "/models/one",
                     .load = "random:7",
                     .moe = "ep",
                     .linear_attention = "replicated",
                     .quantize = "int8",
                     .ranks = 2,
                     .slots = 3,
                     .kv_memory = int64_t{5} << 40,
                     .kv_blocks = 6,
                     .max_context = 7,
                     .token_budget = 8,
                     .num_tokens = 9,
                     .prompt_logits = true,
                     .ops = true};
  StepPlan first{.kind = PlanKind::kStep, .predicted_ms = 4};
  first.opens = {{.slot = 1, .blocks = {2, 3}}};
  first.chunks = {{.slot = 1, .ids = {70, 80}, .scoring = Scoring::kMerged}};
  StepPlan second{.kind = PlanKind::kStep};
  second.decodes = {{.slot = 1}};
  StepPlan last{.kind = PlanKind::kStop, .closes = {1}};
  recorded.steps = {
      {.step = 1,
       .plan = first,
       .result = RecordedResult{.ids = {90},
                                .slot_table = 0x01020304,
                                .logits = {0xFEDCBA9876543210u},
                                .ops = {{OpKind::kBuildRows, 11}, {OpKind::kLogProbs, 12}}}},
      {.step = 2,
       .plan = second,
       .result = RecordedResult{.ids = {91}, .slot_table = 5, .logits = {6}, .ops = {}}},
      {.step = 3, .plan = last, .result = RecordedResult{.slot_table = 7}}};
  return recorded;
}

void ExpectPrefix(const Recorded& got, const Recorded& whole) {
  EXPECT_EQ(got.header, whole.header);
  ASSERT_LE(got.steps.size(), whole.steps.size());
  for (size_t i = 0; i < got.steps.size(); ++i) {
    EXPECT_EQ(got.steps[i].step, whole.steps[i].step);
    EXPECT_TRUE(got.steps[i].plan == whole.steps[i].plan);
    // The last may have lost its result.
    if (i + 1 == got.steps.size() && !got.steps[i].result.has_value()) continue;
    EXPECT_EQ(got.steps[i].result, whole.steps[i].result);
  }
}

TEST(RecordingTest, ComesBackAsItWas) {
  const Recorded full = Full();
  const auto reader = OpenBytes(BytesOf(full));
  const Recorded got = ReadAll(*reader);
  EXPECT_EQ(got.steps.size(), 3u);
  ExpectPrefix(got, full);
  EXPECT_TRUE(got.steps.back().result.has_value());
  EXPECT_EQ(reader->num_cut_bytes(), 0u);
  EXPECT_EQ(got.steps[0].offset, [&] {
    std::vector<uint8_t> header;
    AppendHeader(full.header, &header);
    return header.size();
  }());
}

TEST(RecordingTest, IsReadUpToWhereItWasCut) {
  const Recorded full = Full();
  const std::vector<uint8_t> bytes = BytesOf(full);
  std::vector<uint8_t> header;
  AppendHeader(full.header, &header);
  size_t frames_seen = 0;
  for (size_t length = 0; length < bytes.size(); ++length) {
    SCOPED_TRACE(length);
    const std::string cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    const auto reader =
        RecordingReader::Open("test.rec", std::make_unique<std::istringstream>(cut));
    if (length < header.size()) {
      EXPECT_THAT(std::string(reader.status().message()), HasSubstr("test.rec is "));
      continue;
    }
    ASSERT_TRUE(reader.ok()) << reader.status();
    const Recorded got = ReadAll(**reader);
    ExpectPrefix(got, full);
    EXPECT_EQ((*reader)->Next()->has_value(), false);
    // What was not cut off is there: bytes and frames add up.
    EXPECT_EQ(BytesOf(got).size() + (*reader)->num_cut_bytes(), length);
    frames_seen = std::max(frames_seen, got.steps.size());
  }
  EXPECT_EQ(frames_seen, 3u);
}

TEST(RecordingTest, AnyChangedByteIsRefused) {
  const std::vector<uint8_t> bytes = BytesOf(Full());
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int mask : {1, 0x80}) {
      SCOPED_TRACE(testing::Message() << "byte " << at << ", mask " << mask);
      std::string changed(bytes.begin(), bytes.end());
      changed[at] = static_cast<char>(changed[at] ^ mask);
      const auto reader =
          RecordingReader::Open("test.rec", std::make_unique<std::istringstream>(changed));
      absl::Status status = reader.status();
      for (int step = 0; status.ok() && step < 4; ++step) status = (*reader)->Next().status();
      ASSERT_FALSE(status.ok());
      const std::string message(status.message());
      EXPECT_THAT(message, HasSubstr("test.rec"));
      // The frame's offset, not that of the byte.
      if (absl::IsDataLoss(status)) {
        EXPECT_THAT(message, HasSubstr("damaged at byte "));
        EXPECT_LE(std::stoull(message.substr(message.find("byte ") + 5)), at);
      }
    }
  }
}

// A seed of another plan version would be refused at its header, and nothing behind it be tested.
TEST(RecordingTest, IsTheSeedOfItsFuzzTarget) {
  const std::string seed = DELTASERVE_SOURCE_DIR "/tests/data/fuzz/recording/three_steps";
  const std::vector<uint8_t> bytes = BytesOf(Full());
  const std::string expected(bytes.begin(), bytes.end());
  if (test::ReadFile(seed) == expected) return;
  const std::string path = ::testing::TempDir() + "three_steps";
  std::ofstream(path, std::ios::binary) << expected;
  ADD_FAILURE() << "copy " << path << " to " << seed;
}

TEST(RecordingTest, WhatDoesNotFitItsPlaceIsRefused) {
  struct Row {
    const char* what;
    std::function<void(Recorded&)> change;
    const char* message;
  };
  const Row rows[] = {
      {"plan version", [](Recorded& r) { r.header.plan_version = 1; },
       "holds plans of version 1: this build reads"},
      {"a negative size", [](Recorded& r) { r.header.kv_blocks = -6; },
       "damaged at byte 12: its header says kv_blocks -6"},
      {"gap", [](Recorded& r) { r.steps[1].step = 5; }, "no plan of step 2 is there"},
      {"no result between", [](Recorded& r) { r.steps[0].result.reset(); },
       "no result of step 1 is there"},
      {"ids", [](Recorded& r) { r.steps[1].result->ids.clear(); }, "no result of step 2 is there"},
      {"ops without the header's word", [](Recorded& r) { r.header.ops = false; },
       "no result of step 1 is there"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    Recorded recorded = Full();
    row.change(recorded);
    const std::vector<uint8_t> bytes = BytesOf(recorded);
    const auto reader = RecordingReader::Open(
        "test.rec", std::make_unique<std::istringstream>(std::string(bytes.begin(), bytes.end())));
    absl::Status status = reader.status();
    for (int step = 0; status.ok() && step < 4; ++step) status = (*reader)->Next().status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.message));
  }
}

}  // namespace
}  // namespace deltaserve
