#pragma once

// Small worlds of the fake model, and requests for them.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/engine/collecting_sink.h"
#include "tests/worker/engine/fake_model.h"
#include "tests/worker/engine/pretend_world.h"

namespace deltaserve {

inline constexpr FakeModelOptions kModel;

inline PretendModelFactory Factory(FakeModelOptions options = kModel) {
  return [options](World& world, Device&) {
    return CreateFakeModel(options, world.info().rank, world.info().size);
  };
}

// Blocks of the fake model are 64 keys and 64 values of one float.
inline constexpr int64_t kBlockBytes = 512;

inline EngineOptions SmallEngine() {
  return {.slots = 8, .kv_memory = 64 * kBlockBytes, .token_budget = 128, .max_queue = 64};
}

inline std::unique_ptr<PretendWorld> Start(int ranks, const EngineOptions& options) {
  auto world = PretendWorld::Start({.ranks = ranks, .engine = options}, Factory());
  EXPECT_TRUE(world.ok()) << world.status();
  return *std::move(world);
}

inline std::vector<int32_t> Prompt(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(length);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 101);
  return ids;
}

inline Request Ask(uint32_t seed, size_t length, uint32_t max_tokens) {
  Request request;
  request.id = "request-" + std::to_string(seed);
  request.prompt = Prompt(seed, length);
  request.sampling.temperature = 0;
  request.sampling.seed = seed;
  request.max_tokens = max_tokens;
  return request;
}

inline std::shared_ptr<CollectingSink> Submit(Engine& engine, Request request) {
  auto sink = std::make_shared<CollectingSink>(static_cast<uint32_t>(request.generated.size()));
  const absl::StatusOr<uint64_t> ticket = engine.Submit(std::move(request), sink);
  EXPECT_TRUE(ticket.ok()) << ticket.status();
  return sink;
}

// Nothing is held on any rank and all ranks agree. Right after the last sink has heard its end: the
// load must know by then.
inline void ExpectAllFree(PretendWorld& world, int ranks) {
  const EngineLoad load = world.engine().load();
  EXPECT_EQ(load.running, 0u);
  EXPECT_EQ(load.waiting, 0u);
  EXPECT_EQ(load.waiting_tokens, 0u);
  EXPECT_EQ(load.kv_blocks_used, 0u);
  EXPECT_EQ(load.slots_used, 0u);
  for (const absl::Status& status : world.End()) EXPECT_TRUE(status.ok()) << status;
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(world.executor(rank).slots().num_open(), 0);
    EXPECT_EQ(world.executor(rank).slots().Digest(), world.executor(0).slots().Digest());
  }
}

}  // namespace deltaserve
