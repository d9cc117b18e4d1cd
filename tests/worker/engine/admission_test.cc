#include "worker/engine/admission.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;
using Full = QueueRoom::Full;

constexpr Speed kSpeed = {.prompt_token = absl::Milliseconds(10),
                          .decode_step = absl::Milliseconds(100)};

// Where blocks do not matter.
constexpr int64_t kBlocks = 1000;
QueueRoom::Need Of(int64_t tokens) { return {.tokens = tokens, .blocks = 1}; }

TEST(QueueRoomTest, BoundsRequests) {
  QueueRoom room({.requests = 2, .tokens = 1000});
  room.Reset(0, 0, 1, kBlocks);
  room.Add(Of(5));  // takes the slot
  EXPECT_EQ(room.FullFor(Of(5)), Full::kNo);
  room.Add(Of(5));
  EXPECT_EQ(room.FullFor(Of(5)), Full::kNo);
  room.Add(Of(5));
  EXPECT_EQ(room.FullFor(Of(5)), Full::kRequests);
  room.Reset(1, 5, 0, kBlocks);
  EXPECT_EQ(room.FullFor(Of(5)), Full::kNo);
}

TEST(QueueRoomTest, BoundsTokensButNotOfOneThatWaitsAlone) {
  QueueRoom room({.requests = 10, .tokens = 100});
  EXPECT_EQ(room.FullFor(Of(101)), Full::kNo);
  room.Add(Of(30));
  EXPECT_EQ(room.FullFor(Of(70)), Full::kNo);
  EXPECT_EQ(room.FullFor(Of(71)), Full::kTokens);
  room.Add(Of(70));
  EXPECT_EQ(room.FullFor(Of(1)), Full::kTokens);
  room.Reset(0, 0, 0, kBlocks);
  room.Add(Of(500));
  EXPECT_EQ(room.FullFor(Of(1)), Full::kTokens);
}

TEST(QueueRoomTest, WhoTakesAFreeSlotDoesNotCount) {
  QueueRoom room({.requests = 1, .tokens = 100});
  room.Reset(0, 0, 2, kBlocks);
  room.Add(Of(90));
  room.Add(Of(90));
  EXPECT_EQ(room.FullFor(Of(90)), Full::kNo);
  room.Add(Of(90));
  EXPECT_EQ(room.FullFor(Of(5)), Full::kRequests);
  // Free slots are nobody's while others wait: they wait for blocks.
  room.Reset(1, 90, 2, kBlocks);
  EXPECT_EQ(room.FullFor(Of(5)), Full::kRequests);
}

TEST(QueueRoomTest, WhoFindsASlotButTooFewBlocksWaitsAndSoDoAllBehind) {
  QueueRoom room({.requests = 10, .tokens = 100});
  room.Reset(0, 0, 8, 10);
  room.Add({.tokens = 90, .blocks = 7});  // runs
  EXPECT_EQ(room.FullFor({.tokens = 500, .blocks = 3}), Full::kNo);
  room.Add({.tokens = 60, .blocks = 4});  // waits
  EXPECT_EQ(room.FullFor({.tokens = 40, .blocks = 1}), Full::kNo);
  EXPECT_EQ(room.FullFor({.tokens = 41, .blocks = 1}), Full::kTokens);
}

TEST(QueueRoomTest, ARefusalNamesTheBoundAndWhenToTryAgain) {
  struct Row {
    QueueRoom::Bounds bounds;
    absl::Duration retry_after;
    const char *field, *value, *said;
    int64_t seconds;
  };
  for (const Row& row : std::initializer_list<Row>{
           {{2, 100}, absl::Milliseconds(3200), "max_queue", "2", "2 requests wait and", 4},
           {{3, 100},
            absl::ZeroDuration(),
            "max_queue_tokens",
            "100",
            "80 prompt tokens wait and the queue holds 100: 30 more have no place",
            1},
           {{2, 100}, absl::Hours(3), "max_queue", "2", "try again in 1m or", 60}}) {
    QueueRoom room(row.bounds);
    room.Reset(2, 80, 0, kBlocks);
    const absl::Status status = room.Refusal(Of(30), row.retry_after);
    const v1::ErrorDetail detail = DetailOf(status);
    EXPECT_EQ(detail.code(), v1::ERROR_CODE_QUEUE_FULL);
    EXPECT_EQ(detail.field(), row.field);
    EXPECT_EQ(detail.value(), row.value);
    EXPECT_EQ(detail.retry_after().seconds(), row.seconds);
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.said));
  }
}

TEST(TokensAheadTest, CountsOnlyWhatMustComeFirst) {
  struct Row {
    const char* what;
    int64_t own;
    Ahead ahead;
    int64_t slots, tokens;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"nobody", 100, {}, 1, 0},
           {"a short prompt runs beside a long one", 10, {.earlier = {5000}}, 2, 0},
           {"a chunk for a chunk", 200, {.earlier = {5000, 100, 30}}, 4, 192 + 100 + 30},
           {"later ones give way", 200, {.later = {5000}}, 2, 0},
           {"the only slot", 10, {.earlier = {5000, 40}}, 1, 5040},
           {"the only slot, held by a later one", 10, {.later = {5000}}, 1, 5000},
           {"one must end, at best the shortest", 10, {.earlier = {500, 40}}, 2, 40},
           {"that decodes already", 10, {.earlier = {500}, .later = {0}}, 2, 0},
           {"the shortest beyond what is shared", 64, {.earlier = {500, 90}}, 2, 64 + 90}}) {
    EXPECT_EQ(TokensAhead(row.own, row.ahead, row.slots), row.tokens) << row.what;
  }
}

TEST(LeastTimeTest, IsThatOfPromptsAndSteps) {
  EXPECT_EQ(LeastTime(300, 0, kSpeed), absl::Seconds(3));
  EXPECT_EQ(LeastTime(300, 11, kSpeed), absl::Seconds(4));
  EXPECT_EQ(LeastTime(3, 0, kSpeed), absl::Milliseconds(100));  // a step at least
  EXPECT_EQ(LeastTime(300, 0, {}), absl::ZeroDuration());
}

TEST(TimeToRoomTest, IsWhenEnoughHasEnded) {
  const std::vector<Remaining> running = {
      {.new_tokens = 50, .blocks = 1}, {.new_tokens = 10, .blocks = 2}, {.new_tokens = 30}};
  struct Row {
    int64_t free_slots, free_blocks, blocks;
    absl::Duration when;
  };
  for (const Row& row : std::initializer_list<Row>{{1, 3, 3, absl::ZeroDuration()},
                                                   {0, 3, 3, absl::Seconds(1)},
                                                   {1, 1, 3, absl::Seconds(1)},
                                                   {1, 0, 3, absl::Seconds(5)}}) {
    EXPECT_EQ(TimeToRoom(running, row.free_slots, row.free_blocks, row.blocks, kSpeed), row.when);
  }
  // Decodes wait for the prompts beside them.
  EXPECT_EQ(
      TimeToRoom({{.prompt_tokens = 300, .new_tokens = 20}, {.new_tokens = 10}}, 0, 1, 1, kSpeed),
      absl::Seconds(4));
  EXPECT_EQ(TimeToRoom(running, 0, 0, 1, {}), absl::ZeroDuration());
}

TEST(DeadlineTest, ARefusalTellsBothTimes) {
  const absl::Status status =
      DeadlineTooSoon("r", absl::Milliseconds(1234), absl::Seconds(9.87), 100, 887);
  const v1::ErrorDetail detail = DetailOf(status);
  EXPECT_EQ(detail.code(), v1::ERROR_CODE_DEADLINE);
  EXPECT_EQ(detail.field(), "deadline");
  EXPECT_EQ(detail.value(), "in 1.2s");
  EXPECT_EQ(detail.request_id(), "r");
  EXPECT_EQ(status.message(),
            "the deadline is in 1.2s and at the measured speed this takes 9.9s at least: 100 "
            "prompt tokens after 887 of others; allow more than 9.9s or try another world");
}

}  // namespace
}  // namespace deltaserve
