#include "worker/replay/recording_writer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/log.h"
#include "tests/worker/replay/stalling_sink.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

std::vector<uint8_t> Frame(uint8_t value, size_t size = 10) {
  return std::vector<uint8_t>(size, value);
}

void CaptureLog() {
  InitLogging("info", "");
  testing::internal::CaptureStderr();
}

TEST(RecordingWriterTest, WritesFramesInOrderAndAllOfThemBeforeItEnds) {
  const auto disk = std::make_shared<Disk>();
  {
    RecordingWriter writer(std::make_unique<StallingSink>(disk), {});
    for (uint8_t i = 0; i < 100; ++i) writer.Add(i, Frame(i, 1));
  }
  std::string expected;
  for (char i = 0; i < 100; ++i) expected += i;
  EXPECT_EQ(disk->bytes(), expected);
}

TEST(RecordingWriterTest, WhatWasAwaitedIsThere) {
  const auto disk = std::make_shared<Disk>();
  RecordingWriter writer(std::make_unique<StallingSink>(disk),
                         {.patience = absl::InfiniteDuration()});
  for (uint8_t i = 0; i < 100; ++i) {
    writer.Add(i, Frame(i));
    writer.AwaitWritten();
    ASSERT_EQ(disk->bytes().size(), 10u * (i + 1u));
  }
}

TEST(RecordingWriterTest, ADiskThatFallsBehindByMoreThanTheBoundEndsTheRecording) {
  const auto disk = std::make_shared<Disk>();
  disk->Stall();
  CaptureLog();
  {
    RecordingWriter writer(
        std::make_unique<StallingSink>(disk),
        {.most_bytes = 35, .patience = absl::Milliseconds(1), .last_patience = kSinkPatience});
    for (uint8_t i = 1; i <= 3; ++i) {
      writer.Add(i, Frame(i));
      writer.AwaitWritten();  // comes back although nothing is written
      EXPECT_FALSE(writer.ended());
    }
    writer.Add(4, Frame(4));
    EXPECT_TRUE(writer.ended());
    disk->Go();
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("recording to DISK has ended at step 4: its disk is stalled, and of "
                             "the 35 bytes that may wait, 30 do; the world goes on"));
  EXPECT_EQ(log.find("has ended"), log.rfind("has ended"));
  EXPECT_THAT(disk->bytes().size(), ::testing::AnyOf(0u, 10u));  // whole frames, and no later ones
}

TEST(RecordingWriterTest, ASinksErrorEndsTheRecordingOnce) {
  const auto disk = std::make_shared<Disk>();
  disk->FailAfter(2);
  CaptureLog();
  RecordingWriter writer(std::make_unique<StallingSink>(disk),
                         {.patience = absl::InfiniteDuration()});
  for (uint8_t i = 1; i <= 5; ++i) {
    writer.Add(i, Frame(i));
    writer.AwaitWritten();
    EXPECT_EQ(writer.ended(), i >= 3) << int{i};
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("has ended at step 3: no space; the world goes on"));
  EXPECT_EQ(log.find("has ended"), log.rfind("has ended"));
  EXPECT_EQ(disk->bytes().size(), 20u);
}

// A process ends although a write of its never does.
TEST(RecordingWriterTest, ItsEndWaitsForAStalledDiskOnlySoLong) {
  const auto disk = std::make_shared<Disk>();
  disk->Stall();
  CaptureLog();
  {
    RecordingWriter writer(
        std::make_unique<StallingSink>(disk),
        {.patience = absl::ZeroDuration(), .last_patience = absl::Milliseconds(1)});
    writer.Add(1, Frame(1));
    writer.Add(2, Frame(2));
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("recording to DISK is without its last 20 bytes: its disk is stalled"));
  disk->Go();
  disk->AwaitGone();
}

}  // namespace
}  // namespace deltaserve
