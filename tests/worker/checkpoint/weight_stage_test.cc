#include "worker/checkpoint/weight_stage.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference_device.h"
#include "tests/worker/checkpoint/checkpoint_fixture.h"
#include "tests/worker/comm/deferred_device.h"

namespace deltaserve {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class WeightStageTest : public testing::Test {
 protected:
  const std::unique_ptr<Device> reference_ = reference::CreateReferenceDevice();
  DeferredDevice device_{*reference_};
};

absl::Status FillWithNumber(size_t item, char* out, size_t bytes) {
  std::memset(out, static_cast<int>('a' + item), bytes);
  return absl::OkStatus();
}

TEST_F(WeightStageTest, GivesEveryItemInAnyOrder) {
  for (const size_t budget : {size_t{0}, 3 * kMiB, 100 * kMiB}) {
    const std::vector<size_t> bytes = {kMiB, 100, 2 * kMiB, kMiB, 7, kMiB};
    WeightStage stage(device_, budget, bytes, [&](size_t item, char* out) {
      return FillWithNumber(item, out, bytes[item]);
    });
    for (const size_t item : {size_t{0}, size_t{4}, size_t{5}, size_t{1}, size_t{3}, size_t{2}}) {
      const Buffer taken = stage.Take(item).value();
      ASSERT_EQ(taken.bytes(), bytes[item]);
      const std::string expected(bytes[item], static_cast<char>('a' + item));
      EXPECT_EQ(std::memcmp(taken.data(), expected.data(), bytes[item]), 0)
          << "item " << item << ", budget " << budget;
    }
  }
}

TEST_F(WeightStageTest, HoldsNoMorePinnedMemoryThanTheBudget) {
  constexpr size_t kItems = 20;
  const std::vector<size_t> bytes(kItems, kMiB);
  WeightStage stage(device_, 3 * kMiB, bytes,
                    [](size_t item, char* out) { return FillWithNumber(item, out, kMiB); });
  for (size_t item = 0; item < kItems; ++item) EXPECT_TRUE(stage.Take(item).ok());
  EXPECT_EQ(device_.most_host_bytes(), 3 * kMiB);
}

TEST_F(WeightStageTest, AnItemLargerThanTheBudgetIsHeldAlone) {
  const std::vector<size_t> bytes = {kMiB, 8 * kMiB, kMiB, kMiB};
  WeightStage stage(device_, 2 * kMiB, bytes,
                    [&](size_t item, char* out) { return FillWithNumber(item, out, bytes[item]); });
  for (size_t item = 0; item < bytes.size(); ++item) {
    EXPECT_TRUE(stage.Take(item).ok());
  }
  // Beside those that were read ahead of it.
  EXPECT_LE(device_.most_host_bytes(), 10 * kMiB);
}

// The second item is read before anyone asks for it, while the first is held.
TEST_F(WeightStageTest, ReadsAheadOfWhoTakes) {
  absl::Notification second_read;
  WeightStage stage(device_, 2 * kMiB, {kMiB, kMiB, kMiB}, [&](size_t item, char* out) {
    if (item == 1) second_read.Notify();
    return FillWithNumber(item, out, kMiB);
  });
  const Buffer first = stage.Take(0).value();
  EXPECT_TRUE(second_read.WaitForNotificationWithTimeout(absl::Seconds(60)));
}

TEST_F(WeightStageTest, AFailedReadIsToldToWhoTakesItAndToNoOther) {
  WeightStage stage(device_, 8 * kMiB, {kMiB, kMiB, kMiB}, [](size_t item, char* out) {
    if (item == 1) return absl::DataLossError("file is short");
    return FillWithNumber(item, out, kMiB);
  });
  EXPECT_TRUE(stage.Take(0).ok());
  EXPECT_EQ(stage.Take(1).status(), absl::DataLossError("file is short"));
  EXPECT_TRUE(stage.Take(2).ok());
}

TEST_F(WeightStageTest, EndsWithItemsThatNobodyTook) {
  std::atomic<int> num_read = 0;
  Buffer kept;
  {
    WeightStage stage(device_, 2 * kMiB, {kMiB, kMiB, kMiB}, [&](size_t item, char* out) {
      ++num_read;
      return FillWithNumber(item, out, kMiB);
    });
    kept = stage.Take(0).value();
  }
  EXPECT_LE(num_read.load(), 2);
  EXPECT_EQ(static_cast<const char*>(kept.data())[kMiB - 1], 'a');
  kept = Buffer();
  EXPECT_EQ(device_.host_bytes(), 0U);
}

// A rank's weights, by name, each freed before the next is taken.
std::map<std::string, std::string> TakeEach(WeightLoader& loader,
                                            const std::vector<WeightSpec>& table) {
  std::map<std::string, std::string> all;
  for (const WeightSpec& spec : table) {
    if (!loader.Has(spec.name)) continue;
    const auto weight = loader.Take(spec.name);
    EXPECT_TRUE(weight.ok()) << weight.status();
    all[spec.name] = BytesOf(*weight);
  }
  return all;
}

// Read, with a budget for a few weights: the same as all at once, and no more memory.
TEST_F(WeightStageTest, AStagingLoaderGivesWhatAHostLoaderGives) {
  constexpr size_t kBudget = size_t{400} << 10;
  for (const ModelFamily family : {ModelFamily::kQwen35, ModelFamily::kQwen35Moe}) {
    const ModelConfig config = TinyConfig(family);
    const std::string folder = EmptyFolder();
    WriteSingle(folder, FileTensors(config, PublishedExpertForm(config)));
    const ParallelOptions parallel = {.ranks = 2};
    const std::vector<WeightSpec> table = WeightTable(config, parallel);
    const ShardPlan plan = ShardPlan::Create(config, parallel, 1).value();
    auto host = Load(folder, config, parallel, 1).value();
    const auto expected = TakeEach(*host, table);
    DeferredDevice device(*reference_);
    LoadProgress last;
    const LoaderOptions options = {.num_readers = 2,
                                   .progress = [&](const LoadProgress& p) { last = p; },
                                   .device = &device,
                                   .staging_bytes = kBudget};
    auto staged = OpenCheckpoint(folder, config, plan, table, options).value();
    ASSERT_TRUE(staged->LoadAll().ok());
    EXPECT_EQ(TakeEach(*staged, table), expected);
    EXPECT_EQ(staged->fingerprint(), host->fingerprint());
    EXPECT_EQ(last.bytes_read, last.bytes_total);
    EXPECT_GT(last.bytes_read, 0);
    EXPECT_GT(device.most_host_bytes(), 0U);
    EXPECT_LE(device.most_host_bytes(), kBudget);
  }
}

TEST_F(WeightStageTest, AStagingLoaderDropsATiedHeadThatIsEqual) {
  ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  config.tie_word_embeddings = true;
  const std::string folder = EmptyFolder();
  for (const bool equal : {false, true}) {
    if (equal) {
      Named(tensors, "lm_head.weight").bytes = Named(tensors, "model.embed_tokens.weight").bytes;
    }
    WriteSingle(folder, tensors);
    const ShardPlan plan = ShardPlan::Create(config, {}, 0).value();
    auto loader =
        OpenCheckpoint(folder, config, plan, WeightTable(config, {}), {.device = &device_}).value();
    ASSERT_TRUE(loader->LoadAll().ok());
    EXPECT_EQ(loader->Has("lm_head.weight"), !equal);
    EXPECT_EQ(BytesOf(loader->Take("norm.weight").value()),
              Named(tensors, "model.norm.weight").bytes);
  }
}

// Errors come with the weight that they are of, naming the file.
TEST_F(WeightStageTest, AFileThatIsCutWhileItIsReadIsToldByTake) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, FileTensors(config, ExpertForm::kFused));
  const ShardPlan plan = ShardPlan::Create(config, {}, 0).value();
  const std::vector<WeightSpec> table = WeightTable(config, {});
  auto loader =
      OpenCheckpoint(folder, config, plan, table, {.fingerprint = false, .device = &device_})
          .value();
  std::filesystem::resize_file(folder + "/model.safetensors", 8);
  ASSERT_TRUE(loader->LoadAll().ok());
  const auto taken = loader->Take(table.front().name);
  EXPECT_EQ(taken.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(taken.status().message()), testing::HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace deltaserve
