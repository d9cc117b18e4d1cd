// The ops that bench_ops --model times, run once each in the dtypes of a CPU and in those of a GPU.

#include "tools/bench/model_cases.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "kernels/reference/narrow_device.h"
#include "kernels/reference/reference_device.h"
#include "tools/checkpoint_shapes.h"

namespace deltaserve::bench {
namespace {

// Of a shape that make_checkpoint writes: published head sizes, few heads.
ModelConfig Config(const std::string& shape) {
  for (const CheckpointShape& one : AllCheckpointShapes()) {
    if (one.name == shape) return one.config;
  }
  ADD_FAILURE() << "no shape " << shape;
  return {};
}

constexpr int64_t kPrefill = 64;
const ModelCaseSizes kSizes{
    .decodes = {1, 2}, .prefill = kPrefill, .depth = 70, .distinct_bytes = 20 << 10};

struct AllCases {
  std::set<std::string> names;
  double bytes = 0;  // of all cases
};

AllCases RunAll(Device& device, const ModelConfig& config) {
  AllCases all;
  for (const OpGroup& group : ModelGroups(config, kSizes)) {
    OpData data(device);
    const std::vector<OpCase> cases = group.make(data);
    std::vector<std::string> names;
    for (const OpCase& one : cases) {
      names.push_back(one.name);
      EXPECT_TRUE(all.names.insert(one.name).second) << one.name;
      EXPECT_GT(one.rows, 0) << one.name;
      EXPECT_GT(one.cost.bytes, 0) << one.name;
      all.bytes += one.cost.bytes;
      one.run();
    }
    EXPECT_EQ(names, group.names);  // which --list and --only go by
    EXPECT_TRUE(device.Synchronize().ok());
  }
  return all;
}

TEST(ModelCasesTest, RunInTheDtypesOfEveryDevice) {
  const auto wide = reference::CreateReferenceDevice();
  const auto narrow = reference::CreateNarrowDevice(reference::CreateReferenceDevice());
  for (const char* const shape : {"dense-tied", "moe-fused"}) {
    const ModelConfig config = Config(shape);
    const AllCases f32 = RunAll(*wide, config);
    const AllCases bf16 = RunAll(*narrow, config);
    EXPECT_EQ(f32.names, bf16.names);
    EXPECT_LT(bf16.bytes, f32.bytes);
    EXPECT_EQ(f32.names.contains("experts, rows 64"), config.num_experts > 0);
    EXPECT_EQ(f32.names.contains("linear mlp down [64 x 192], rows 2"), config.num_experts == 0);
  }
}

TEST(ModelCasesTest, AMatrixIsReadInCopiesThatNoCacheHolds) {
  const auto device = reference::CreateReferenceDevice();
  const ModelConfig config = Config("dense-tied");
  ModelCaseSizes sizes = kSizes;
  sizes.distinct_bytes =
      static_cast<int64_t>(OpData(*device).Linear(64, 192).bytes()) + 1;  // so not of one copy
  for (const OpGroup& group : ModelGroups(config, sizes)) {
    if (group.names[0] != "linear mlp down [64 x 192], rows 1") continue;
    OpData data(*device);
    const OpCase one = group.make(data).front();
    EXPECT_EQ(one.rows, 2);
    EXPECT_EQ(one.calls, 2);
    EXPECT_DOUBLE_EQ(one.cost.flops, 2 * 2.0 * 64 * 192);
    return;
  }
  FAIL() << "no such matrix";
}

}  // namespace
}  // namespace deltaserve::bench
