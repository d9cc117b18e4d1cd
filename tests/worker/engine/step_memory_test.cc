// Over a device whose copies happen when somebody waits: what is read too soon, or written over
// before it was copied, is wrong.

#include "worker/engine/step_memory.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference_device.h"
#include "tests/worker/comm/deferred_device.h"

namespace deltaserve {
namespace {

class StepMemoryTest : public ::testing::Test {
 protected:
  TensorView New(int64_t count) {
    buffers_.push_back(
        *device_.Allocate(static_cast<size_t>(count) * sizeof(int32_t), MemoryKind::kDevice));
    return buffers_.back().View(DType::kI32, {count});
  }

  const std::unique_ptr<Device> reference_ = reference::CreateReferenceDevice();
  DeferredDevice device_{*reference_};
  std::vector<Buffer> buffers_;
};

std::vector<int32_t> Numbers(size_t count, int32_t first) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST_F(StepMemoryTest, TwoStepsAreUnderWayAtOnce) {
  const auto memory = *StepMemory::Create(device_, {.uploads = 256, .results = 256});
  std::vector<std::span<const int32_t>> results;
  for (int32_t step = 0; step < 2; ++step) {
    memory->NextStep();
    for (int32_t part = 0; part < 2; ++part) {
      const TensorView on_device = New(20);
      std::vector<int32_t> values = Numbers(20, 100 * step + 50 * part);
      ASSERT_TRUE(memory->ToDevice(on_device, values.data()).ok());
      values.assign(values.size(), -1);
      results.push_back(memory->ToHost<int32_t>(on_device));
    }
  }
  ASSERT_TRUE(device_.Synchronize().ok());
  for (int32_t i = 0; i < 4; ++i) {
    const auto& result = results[static_cast<size_t>(i)];
    EXPECT_EQ(std::vector<int32_t>(result.begin(), result.end()), Numbers(20, 50 * i)) << i;
  }
}

TEST_F(StepMemoryTest, WaitsWhereAStepCopiesMoreThanItHolds) {
  const auto memory = *StepMemory::Create(device_, {.uploads = 256, .results = 8192});
  memory->NextStep();
  std::vector<std::span<const int32_t>> results;
  for (const int64_t count : {1, 0, 1000, 63, 64, 65}) {
    const TensorView on_device = New(count);
    const std::vector<int32_t> values = Numbers(static_cast<size_t>(count), 3);
    ASSERT_TRUE(memory->ToDevice(on_device, values.data()).ok());
    results.push_back(memory->ToHost<int32_t>(on_device));
    EXPECT_EQ(results.back().size(), values.size());
  }
  ASSERT_TRUE(device_.Synchronize().ok());
  for (const auto& result : results) {
    EXPECT_EQ(std::vector<int32_t>(result.begin(), result.end()), Numbers(result.size(), 3));
  }
}

}  // namespace
}  // namespace deltaserve
