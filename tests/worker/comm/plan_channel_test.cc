#include "worker/comm/plan_channel.h"

#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/crc32.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

constexpr uint64_t kEpoch = 0x1234567890abcdef;
constexpr size_t kPayloadInSlot = PlanChannel::kSlotBytes - sizeof(PlanHeader);

// Broadcasts that have been sent and not yet received.
using Wire = std::deque<std::vector<uint8_t>>;

// One end of a channel of two ranks on a wire that tests may tamper with.
class WireChannel final : public PlanChannel {
 public:
  WireChannel(int rank, Wire& wire, uint64_t epoch = kEpoch)
      : PlanChannel(rank, 2, epoch), rank_(rank), wire_(wire) {}

 private:
  absl::Status BroadcastFromZero(std::span<uint8_t> bytes) override {
    if (rank_ == 0) {
      wire_.emplace_back(bytes.begin(), bytes.end());
      return absl::OkStatus();
    }
    EXPECT_FALSE(wire_.empty());
    EXPECT_EQ(wire_.front().size(), bytes.size());
    std::copy(wire_.front().begin(), wire_.front().end(), bytes.begin());
    wire_.pop_front();
    return absl::OkStatus();
  }

  const int rank_;
  Wire& wire_;
};

std::vector<uint8_t> Payload(size_t bytes) {
  std::vector<uint8_t> payload(bytes);
  std::iota(payload.begin(), payload.end(), uint8_t{7});
  return payload;
}

class PlanChannelTest : public testing::Test {
 protected:
  Wire wire_;
  WireChannel sender_{0, wire_};
  WireChannel receiver_{1, wire_};
  PlanMessage message_;
};

TEST_F(PlanChannelTest, CarriesPayloadsOfEverySizeInOneOrTwoBroadcasts) {
  uint64_t step = 0;
  for (const size_t bytes : {size_t{0}, size_t{1}, kPayloadInSlot - 1, kPayloadInSlot,
                             kPayloadInSlot + 1, size_t{100000}, size_t{5}}) {
    ASSERT_TRUE(sender_.Send(40 + static_cast<uint32_t>(step), Payload(bytes)).ok());
    EXPECT_EQ(wire_.size(), bytes <= kPayloadInSlot ? 1u : 2u);
    ASSERT_TRUE(receiver_.Receive(&message_).ok()) << bytes;
    EXPECT_EQ(message_.payload, Payload(bytes));
    EXPECT_EQ(message_.kind, 40 + step);
    EXPECT_EQ(message_.step, ++step);
    EXPECT_EQ(sender_.step(), step);
    EXPECT_EQ(receiver_.step(), step);
  }
}

TEST_F(PlanChannelTest, FindsEveryFlippedBitOfHeaderAndPayload) {
  for (size_t bit = 0; bit < 8 * (sizeof(PlanHeader) + 50); ++bit) {
    Wire wire;
    WireChannel sender(0, wire), receiver(1, wire);
    ASSERT_TRUE(sender.Send(3, Payload(50)).ok());
    wire[0][bit / 8] = static_cast<uint8_t>(wire[0][bit / 8] ^ (1u << bit % 8));
    EXPECT_EQ(receiver.Receive(&message_).code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    EXPECT_EQ(receiver.step(), 0u);
  }
}

TEST_F(PlanChannelTest, FindsAFlippedBitBeyondTheSlot) {
  ASSERT_TRUE(sender_.Send(3, Payload(5000)).ok());
  wire_[1].back() ^= 0x10;
  const absl::Status status = receiver_.Receive(&message_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("plan of step 1: CRC of its 5000 bytes"));
}

TEST_F(PlanChannelTest, FindsAMissingMessage) {
  ASSERT_TRUE(sender_.Send(1, Payload(10)).ok());
  ASSERT_TRUE(sender_.Send(1, Payload(10)).ok());
  wire_.pop_front();
  const absl::Status status = receiver_.Receive(&message_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "plan after step 0: step is 2, expected 1");
}

TEST_F(PlanChannelTest, FindsARepeatedMessage) {
  ASSERT_TRUE(sender_.Send(1, Payload(10)).ok());
  wire_.push_back(wire_.front());
  ASSERT_TRUE(receiver_.Receive(&message_).ok());
  EXPECT_THAT(std::string(receiver_.Receive(&message_).message()),
              HasSubstr("step is 1, expected 2"));
}

TEST_F(PlanChannelTest, RefusesAnotherLifeOfTheWorld) {
  WireChannel stale(1, wire_, kEpoch + 1);
  ASSERT_TRUE(sender_.Send(1, Payload(10)).ok());
  const absl::Status status = stale.Receive(&message_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("epoch is 1234567890abcdef"));
}

TEST_F(PlanChannelTest, BelievesNoLengthThatNoPlanHas) {
  ASSERT_TRUE(sender_.Send(1, Payload(10)).ok());
  PlanHeader header;
  std::memcpy(&header, wire_[0].data(), sizeof(header));
  header.bytes = uint64_t{1} << 40;
  header.header_crc = 0;
  header.header_crc = Crc32({reinterpret_cast<const uint8_t*>(&header), sizeof(header)});
  std::memcpy(wire_[0].data(), &header, sizeof(header));
  EXPECT_THAT(std::string(receiver_.Receive(&message_).message()),
              HasSubstr("bytes is 10000000000, expected 10000000"));
}

TEST_F(PlanChannelTest, SendsNothingOfTheMessageBefore) {
  ASSERT_TRUE(sender_.Send(1, std::vector<uint8_t>(kPayloadInSlot, 0xaa)).ok());
  ASSERT_TRUE(sender_.Send(1, Payload(1)).ok());
  EXPECT_THAT(std::vector<uint8_t>(wire_[1].begin() + sizeof(PlanHeader) + 1, wire_[1].end()),
              testing::Each(0));
}

TEST(ThreadPlanChannelTest, ReachesEveryRank) {
  ThreadWorld world(3);
  RunRanks(3, [&](int rank) {
    const auto channel = CreateThreadPlanChannel(world, rank);
    for (uint32_t step = 1; step <= 50; ++step) {
      const std::vector<uint8_t> payload = Payload(size_t{step} * 97);
      if (rank == 0) {
        ASSERT_TRUE(channel->Send(step, payload).ok());
        continue;
      }
      PlanMessage message;
      ASSERT_TRUE(channel->Receive(&message).ok());
      ASSERT_EQ(message.kind, step);
      ASSERT_EQ(message.payload, payload);
    }
  });
}

TEST(ThreadPlanChannelTest, EndsWhenTheWorldIsStopped) {
  ThreadWorld world(2);
  RunRanks(2, [&](int rank) {
    const auto channel = CreateThreadPlanChannel(world, rank);
    PlanMessage message;
    if (rank == 0) {
      world.Stop();
      EXPECT_EQ(channel->Send(1, {}).code(), absl::StatusCode::kCancelled);
    } else {
      EXPECT_EQ(channel->Receive(&message).code(), absl::StatusCode::kCancelled);
    }
  });
}

TEST(ThreadPlanChannelTest, AWorldOfOneRankOnlyCounts) {
  ThreadWorld world(1);
  const auto channel = CreateThreadPlanChannel(world, 0);
  ASSERT_TRUE(channel->Send(1, Payload(9)).ok());
  ASSERT_TRUE(channel->Send(1, Payload(9)).ok());
  EXPECT_EQ(channel->step(), 2u);
}

TEST(Crc32Test, IsTheOneOfZlib) {
  const std::string digits = "123456789";
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(digits.data()), 9);
  EXPECT_EQ(Crc32(bytes), 0xcbf43926u);
  EXPECT_EQ(Crc32({}), 0u);
  EXPECT_EQ(Crc32(bytes.subspan(4), Crc32(bytes.first(4))), 0xcbf43926u);
}

}  // namespace
}  // namespace deltaserve
