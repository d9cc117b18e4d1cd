#include "worker/engine/memory_plan.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/shim/shim_device.h"
#include "kernels/ops.h"
#include "kernels/reference/narrow_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/worker/engine/fake_model.h"

namespace deltaserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Blocks of FakeConfig: one layer, 4 KV heads of 8, keys and values, 64 tokens of f32.
constexpr int64_t kBlockBytes = int64_t{2} * 4 * 8 * 64 * 4;

absl::StatusOr<MemoryPlan> PlanOf(const EngineOptions& options,
                                  const Numerics& numerics = kF32Numerics,
                                  bool tied = false) {
  ModelConfig config = FakeConfig({.max_context = 4096});
  config.tie_word_embeddings = tied;
  const auto device = numerics == kF32Numerics ? reference::CreateReferenceDevice()
                                               : reference::CreateNarrowDevice(
                                                     reference::CreateReferenceDevice(), numerics);
  return PlanMemory(config, *ShardPlan::Create(config, {}, 0), *device, options);
}

EngineOptions Small() { return {.slots = 2, .kv_memory = 3 * kBlockBytes, .token_budget = 64}; }

TEST(MemoryPlanTest, CountsWhatConfigAndFlagsSay) {
  const MemoryPlan plan = *PlanOf(Small());
  EXPECT_EQ(plan.per_block, kBlockBytes);
  EXPECT_EQ(plan.kv_blocks, 3);
  EXPECT_EQ(plan.max_context, 4096);
  EXPECT_EQ(plan.prompt_rows, 64);
  EXPECT_EQ(plan.per_row, 8 * 4);
  // One layer: 4 heads of 8 x 8, and 3 inputs of 3 x 32 channels; 128 logits with padding; 64
  // blocks.
  EXPECT_EQ(plan.per_slot, (int64_t{4} * 8 * 8 + int64_t{3} * 96 + 128 + 64) * 4 + plan.per_row);
  EXPECT_EQ(plan.scored_rows, int64_t{64} * 128 * 4);
  // Residual and norm, and a dense layer's gate, up and their product, of the rows of prompts and
  // of all slots; and the sampler's 32 rows of logits, which are more where there are few of those.
  EXPECT_EQ(ArenaBytes(plan, 2, 64), int64_t{66} * (8 + 8 + 3 * 64) * 4);
  EXPECT_EQ(ArenaBytes(plan, 2, 1), int64_t{32} * 128 * 4);
  // bf16: an embedding and a head of 101 x 8 at the least, with two layers in between.
  EXPECT_GT(plan.weights, int64_t{2} * 101 * 8 * 2);
  EXPECT_GT(plan.per_queued, 0);
}

TEST(MemoryPlanTest, CountsTheDevicesDtypes) {
  const MemoryPlan wide = *PlanOf(Small());
  const MemoryPlan narrow = *PlanOf(Small(), kBF16Numerics);
  EXPECT_EQ(narrow.per_block, kBlockBytes / 2);
  EXPECT_EQ(narrow.kv_blocks, 6);
  // The residual stays f32, and so do states and logits.
  EXPECT_EQ(narrow.per_row, 8 * 2);
  EXPECT_EQ(ArenaBytes(narrow, 2, 64), int64_t{66} * (8 * (4 + 2) + 3 * 64 * 2));
  EXPECT_EQ(narrow.per_slot - narrow.per_row, wide.per_slot - wide.per_row);
  EXPECT_EQ(narrow.weights, wide.weights);
  EXPECT_EQ(ArenaBytes(*PlanOf(Small(), {.kv = DType::kBF16}), 2, 64), ArenaBytes(wide, 2, 64));
}

// On a GPU the head of a tied model is the embedding as it lies, else it is packed once more.
TEST(MemoryPlanTest, CountsATiedHeadAsTheDeviceHoldsIt) {
  const int64_t as_stored = PlanOf(Small())->weights;
  EXPECT_EQ(PlanOf(Small(), kF32Numerics, true)->weights, as_stored);
  const auto device = cuda::CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "nvcc has the kernels";
  ModelConfig config = FakeConfig({.max_context = 4096});
  const ShardPlan plan = *ShardPlan::Create(config, {}, 0);
  EXPECT_EQ(PlanMemory(config, plan, *device, Small())->weights, as_stored);
  config.tie_word_embeddings = true;
  EXPECT_EQ(PlanMemory(config, plan, *device, Small())->weights, as_stored - int64_t{128} * 8 * 2);
}

TEST(MemoryPlanTest, RequestsThatWaitTakeNoMemoryOfADeviceOfItsOwn) {
  EngineOptions options = Small();
  options.max_queue_tokens = int64_t{1} << 32;
  const MemoryPlan plan = *PlanOf(options);
  EXPECT_FALSE(CheckMemory(plan, options, int64_t{64} << 20).ok());
  EXPECT_EQ(CheckMemory(WithoutHostParts(plan), options, int64_t{64} << 20), absl::OkStatus());
}

TEST(MemoryPlanTest, CountsEightBitWeightsAsTheyArePacked) {
  EngineOptions options = Small();
  const int64_t as_stored = PlanOf(options)->weights;
  options.quantization = Quantization::kInt8;
  // The embedding and what is no product stay: 101 x 8 of two bytes at the least.
  EXPECT_LT(PlanOf(options)->weights, as_stored);
  EXPECT_GT(PlanOf(options)->weights, as_stored / 2 + int64_t{101} * 8);
}

TEST(MemoryPlanTest, AllSlotsUseNoMoreBlocksThanTheirContexts) {
  EngineOptions options = Small();
  options.kv_memory = int64_t{1} << 50;
  EXPECT_EQ(PlanOf(options)->kv_blocks, 2 * 64);
  options.max_context = 100;
  EXPECT_EQ(PlanOf(options)->kv_blocks, 2 * 2);
}

TEST(MemoryPlanTest, RefusesContextsThatModelOrKvMemoryCannotHold) {
  struct Row {
    int64_t max_context, kv_memory;
    const char* said;
  };
  for (const Row& row : std::initializer_list<Row>{
           {4097, 64 * kBlockBytes, "--max-context is 4097: max_position_embeddings"},
           {0, kBlockBytes - 1, "--kv-memory is 16383: one block of 64 tokens takes 16384"},
           {193, 3 * kBlockBytes,
            "--max-context is 193: --kv-memory is 49152 and holds 192 tokens; use at most 192, or "
            "--kv-memory 65536"}}) {
    EngineOptions options = Small();
    options.max_context = row.max_context;
    options.kv_memory = row.kv_memory;
    const absl::Status status = PlanOf(options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.said));
  }
  // What nobody asked for is no reason to refuse.
  EXPECT_TRUE(PlanOf(Small()).ok());
  EngineOptions fits = Small();
  fits.max_context = 192;
  EXPECT_TRUE(PlanOf(fits).ok());
}

// The number at the end of a message.
int64_t LargestOf(const absl::Status& status) {
  const std::string message(status.message());
  int64_t number = -1;
  EXPECT_TRUE(absl::SimpleAtoi(message.substr(message.rfind(' ') + 1), &number)) << message;
  return number;
}

TEST(MemoryPlanTest, NamesTheFlagThatTakesMostAndItsLargestValue) {
  struct Row {
    const char* flag;
    int64_t EngineOptions::*value;
    int64_t asked, step;
  };
  constexpr int64_t kMemory = int64_t{64} << 20;
  for (const Row& row : std::initializer_list<Row>{
           {"--slots", &EngineOptions::slots, 100000, 1},
           {"--kv-memory", &EngineOptions::kv_memory, int64_t{1} << 40, kBlockBytes},
           {"--token-budget", &EngineOptions::token_budget, 1 << 20, 64},
           {"--max-queue", &EngineOptions::max_queue, 1 << 20, 1},
           {"--max-queue-tokens", &EngineOptions::max_queue_tokens, int64_t{1} << 32, 1}}) {
    EngineOptions options = Small();
    options.slots = 100;
    options.*row.value = row.asked;
    const absl::Status refused = CheckMemory(*PlanOf(options), options, kMemory);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << row.flag;
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr(absl::StrCat(row.flag, " is ", row.asked, ": ")),
                      HasSubstr("a rank has 67108864; use at most ")));
    // The value that it names is taken, and the next one is not.
    options.*row.value = LargestOf(refused);
    EXPECT_EQ(CheckMemory(*PlanOf(options), options, kMemory), absl::OkStatus()) << row.flag;
    options.*row.value += row.step;
    EXPECT_FALSE(CheckMemory(*PlanOf(options), options, kMemory).ok()) << row.flag;
  }
}

TEST(MemoryPlanTest, WeightsThatAreTooLargeAreTheModels) {
  const MemoryPlan plan = *PlanOf(Small());
  const absl::Status status = CheckMemory(plan, Small(), plan.weights);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("--model"), HasSubstr(absl::StrCat(plan.weights, " bytes")),
                    HasSubstr("more ranks")));
}

}  // namespace
}  // namespace deltaserve
