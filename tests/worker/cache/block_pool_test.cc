#include "worker/cache/block_pool.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

TEST(BlockPoolTest, GivesEachBlockOnce) {
  BlockPool pool(5);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(2, &blocks));
  ASSERT_TRUE(pool.Allocate(3, &blocks));
  EXPECT_EQ(std::set<int32_t>(blocks.begin(), blocks.end()), (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(blocks.size(), 5u);
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(BlockPoolTest, TakesNothingWhereNotAllFit) {
  BlockPool pool(3);
  std::vector<int32_t> blocks = {7};
  EXPECT_FALSE(pool.Allocate(4, &blocks));
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(blocks, std::vector<int32_t>{7});
  EXPECT_TRUE(pool.Allocate(3, &blocks));
}

TEST(BlockPoolTest, AppendsBehindWhatIsThere) {
  BlockPool pool(2);
  std::vector<int32_t> blocks = {9};
  ASSERT_TRUE(pool.Allocate(2, &blocks));
  EXPECT_EQ(blocks.front(), 9);
  EXPECT_EQ(blocks.size(), 3u);
}

TEST(BlockPoolTest, FreesABlockWithItsLastHolder) {
  BlockPool pool(2);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(2, &blocks));
  const std::vector<int32_t> shared = {blocks[0]};
  pool.Share(shared);
  EXPECT_EQ(pool.references(blocks[0]), 2);
  pool.Release(blocks);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.references(blocks[0]), 1);
  pool.Release(shared);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.references(blocks[0]), 0);
}

TEST(BlockPoolTest, AllocatesNoneOfNone) {
  BlockPool pool(0);
  std::vector<int32_t> blocks;
  EXPECT_TRUE(pool.Allocate(0, &blocks));
  EXPECT_FALSE(pool.Allocate(1, &blocks));
}

TEST(BlockPoolDeathTest, RefusesToReleaseOrShareAFreeBlock) {
  BlockPool pool(2);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(1, &blocks));
  pool.Release(blocks);
  EXPECT_DEATH(pool.Release(blocks), "is free");
  EXPECT_DEATH(pool.Share(blocks), "is free");
  EXPECT_DEATH(pool.Release(std::vector<int32_t>{2}), "block 2 of 2");
}

}  // namespace
}  // namespace deltaserve
