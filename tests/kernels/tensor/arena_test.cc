#include "kernels/tensor/arena.h"

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

// An arena that counts what it asks for.
struct Counted {
  int allocations = 0;
  Arena arena{[this](size_t bytes) {
    ++allocations;
    return Buffer::AllocateHost(bytes);
  }};
};

TEST(ArenaTest, HighWaterIsTheMostThatWasLiveAtOnce) {
  Arena arena;
  {
    const ArenaScope outer(arena);
    arena.Allocate(DType::kF32, {64});
    for (int i = 0; i < 3; ++i) {
      const ArenaScope inner(arena);
      arena.Allocate(DType::kF32, {128});
    }
    EXPECT_EQ(arena.used_bytes(), 256u);
  }
  EXPECT_EQ(arena.used_bytes(), 0u);
  EXPECT_EQ(arena.high_water_bytes(), 256u + 512u);
}

TEST(ArenaTest, AllocatesNothingOnceFrozen) {
  Counted counted;
  const auto step = [&counted] {
    const ArenaScope scope(counted.arena);
    counted.arena.Allocate(DType::kF32, {100});
    counted.arena.Allocate(DType::kBF16, {3, 5});
  };
  step();
  counted.arena.Freeze();
  const int warm = counted.allocations;
  for (int i = 0; i < 4; ++i) step();
  EXPECT_EQ(counted.allocations, warm);
  EXPECT_TRUE(counted.arena.frozen());
}

TEST(ArenaTest, GrowsAgainAfterAThaw) {
  Counted counted;
  const auto step = [&counted](int64_t elements) {
    const ArenaScope scope(counted.arena);
    counted.arena.Allocate(DType::kF32, {elements});
    counted.arena.Allocate(DType::kF32, {64});
  };
  step(64);
  counted.arena.Freeze();
  counted.arena.Thaw();
  step(6400);
  step(64);
  counted.arena.Freeze();
  const int warm = counted.allocations;
  step(6400);
  EXPECT_EQ(counted.allocations, warm);
}

TEST(ArenaTest, ViewsOfOneScopeDoNotOverlap) {
  Arena arena;
  {
    const ArenaScope scope(arena);
    arena.Allocate(DType::kU8, {300});
    arena.Allocate(DType::kU8, {1});
  }
  arena.Freeze();
  const ArenaScope scope(arena);
  const TensorView a = arena.Allocate(DType::kU8, {300});
  const TensorView b = arena.Allocate(DType::kU8, {1});
  EXPECT_GE(b.as<uint8_t>(), a.as<uint8_t>() + 300);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0u);
}

TEST(ArenaTest, ReusesMemoryAfterAScope) {
  Arena arena;
  {
    const ArenaScope scope(arena);
    arena.Allocate(DType::kF32, {8});
  }
  arena.Freeze();
  void* first = nullptr;
  for (int i = 0; i < 2; ++i) {
    const ArenaScope scope(arena);
    void* data = arena.Allocate(DType::kF32, {8}).data();
    if (i == 0) first = data;
    EXPECT_EQ(data, first);
  }
}

TEST(ArenaTest, GivesEmptyViewsWithoutMemory) {
  Counted counted;
  const ArenaScope scope(counted.arena);
  EXPECT_EQ(counted.arena.Allocate(DType::kF32, {0, 9}).numel(), 0);
  EXPECT_EQ(counted.allocations, 0);
}

TEST(ArenaDeathTest, RefusesMoreThanWarmUpAskedFor) {
  Arena arena;
  {
    const ArenaScope scope(arena);
    arena.Allocate(DType::kF32, {64});
  }
  arena.Freeze();
  const ArenaScope scope(arena);
  EXPECT_DEATH(arena.Allocate(DType::kF32, {65}), "scratch for F32\\[65\\]");
}

TEST(ArenaDeathTest, RefusesToFreezeWhileViewsLive) {
  Arena arena;
  const ArenaScope scope(arena);
  arena.Allocate(DType::kF32, {1});
  EXPECT_DEATH(arena.Freeze(), "256 bytes are in use");
}

}  // namespace
}  // namespace deltaserve
