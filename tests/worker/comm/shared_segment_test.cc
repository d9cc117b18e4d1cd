#include "worker/comm/shared_segment.h"

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/thread_world.h"

namespace deltaserve {
namespace {

TEST(SharedSegmentTest, EveryRankSeesWhatAnotherWrites) {
  constexpr int kRanks = 3;
  constexpr size_t kBytes = 10001;
  ThreadWorld world(kRanks);
  std::vector<void*> addresses(kRanks);
  RunRanks(kRanks, [&](int rank) {
    const auto segment = SharedSegment::Create(world.world(rank), kBytes);
    ASSERT_TRUE(segment.ok()) << segment.status();
    ASSERT_EQ((*segment)->bytes(), kBytes);
    auto* const bytes = static_cast<uint8_t*>((*segment)->data());
    addresses[static_cast<size_t>(rank)] = bytes;
    for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(bytes[i], 0) << i;
    world.world(rank).Barrier();
    bytes[rank] = static_cast<uint8_t>(rank + 1);
    bytes[kBytes - 1 - static_cast<size_t>(rank)] = static_cast<uint8_t>(rank + 11);
    world.world(rank).Barrier();
    for (size_t peer = 0; peer < kRanks; ++peer) {
      EXPECT_EQ(bytes[peer], peer + 1);
      EXPECT_EQ(bytes[kBytes - 1 - peer], peer + 11);
    }
    world.world(rank).Barrier();
  });
  EXPECT_NE(addresses[0], addresses[1]);  // mapped by each, not passed by address
}

TEST(SharedSegmentTest, HasNoNameInAnyFileSystem) {
  ThreadWorld world(1);
  const auto segment = SharedSegment::Create(world.world(0), 4096);
  ASSERT_TRUE(segment.ok()) << segment.status();
  const std::string start =
      absl::StrCat(absl::Hex(reinterpret_cast<uintptr_t>((*segment)->data())));
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line) && line.rfind(start + "-", 0) != 0) line.clear();
  EXPECT_THAT(line, testing::ContainsRegex("/memfd:deltaserve-[0-9a-f]+ \\(deleted\\)"));
}

// More than a process can map, though memory of that size can be named.
TEST(SharedSegmentTest, WhereItCannotBeMappedEveryRankHearsOfIt) {
  ThreadWorld world(2);
  RunRanks(2, [&](int rank) {
    const auto segment = SharedSegment::Create(world.world(rank), size_t{1} << 60);
    EXPECT_EQ(segment.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(segment.status().message()),
                testing::StartsWith("rank 0 on thread-world: mmap of 1152921504606846976 bytes: "));
  });
}

TEST(SharedSegmentTest, WhereItCannotBeMadeEveryRankHearsOfIt) {
  ThreadWorld world(2);
  RunRanks(2, [&](int rank) {
    const auto segment = SharedSegment::Create(world.world(rank), ~size_t{0});
    EXPECT_EQ(segment.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(segment.status().message()),
                testing::StartsWith("rank 0 on thread-world: memory of"));
  });
}

}  // namespace
}  // namespace deltaserve
