#pragma once

// What every World must do. Called by all ranks at once.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "worker/comm/world.h"

namespace deltaserve {

inline void CheckWorld(World& world) {
  const RankInfo& info = world.info();
  const auto size = static_cast<size_t>(info.size);

  // Pieces of unequal size, an empty one among them.
  const auto piece = [](size_t rank) { return std::string(rank * 1000, static_cast<char>(rank)); };
  const std::vector<std::string> all = world.AllGather(piece(static_cast<size_t>(info.rank)));
  ASSERT_EQ(all.size(), size);
  for (size_t rank = 0; rank < size; ++rank) EXPECT_EQ(all[rank], piece(rank));

  const std::string sent("a\0b", 3);
  EXPECT_EQ(world.BroadcastFromZero(info.rank == 0 ? sent : "not looked at"), sent);
  EXPECT_EQ(world.BroadcastFromZero(""), "");
  world.Barrier();

  const std::vector<std::string> epochs = world.AllGather(std::to_string(world.DrawEpoch()));
  EXPECT_EQ(epochs, std::vector<std::string>(size, epochs[0]));
  EXPECT_NE(std::to_string(world.DrawEpoch()), epochs[0]);
}

inline void CheckAgreeOnStatus(World& world) {
  const int rank = world.info().rank;
  int speaker = -1;
  EXPECT_TRUE(world.AgreeOnStatus(absl::OkStatus(), &speaker).ok());
  EXPECT_EQ(speaker, -1);
  // Of several that fail the lowest is heard by all.
  for (int first = 0; first < world.info().size; ++first) {
    const absl::Status mine =
        rank < first ? absl::OkStatus()
                     : absl::ResourceExhaustedError("rank " + std::to_string(rank) + " is full");
    const absl::Status agreed = world.AgreeOnStatus(mine, &speaker);
    EXPECT_EQ(speaker, first);
    EXPECT_EQ(agreed, absl::ResourceExhaustedError("rank " + std::to_string(first) + " is full"));
  }
  // One that failed by itself goes before those that its failure reached.
  const int last = world.info().size - 1;
  const absl::Status reached = rank == last   ? absl::UnavailableError("broken")
                               : rank % 2 > 0 ? absl::AbortedError("cut off")
                                              : absl::DeadlineExceededError("nobody came");
  EXPECT_EQ(world.AgreeOnStatus(reached, &speaker), absl::UnavailableError("broken"));
  EXPECT_EQ(speaker, last);
  EXPECT_EQ(world.AgreeOnStatus(absl::DeadlineExceededError("nobody came"), &speaker),
            absl::DeadlineExceededError("nobody came"));
  EXPECT_EQ(speaker, 0);
  // A status without a message is a failure too.
  EXPECT_EQ(world.AgreeOnStatus(absl::UnknownError("")).code(), absl::StatusCode::kUnknown);
}

}  // namespace deltaserve
