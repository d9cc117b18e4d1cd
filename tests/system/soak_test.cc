#include "tests/system/soak.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve::test {
namespace {

TEST(SoakTest, NothingLeaksSticksOrDiffersUnderAMixedLoad) {
  const SoakReport report =
      RunSoak({.duration = absl::Seconds(8), .most_growth_bytes = int64_t{8} << 20});
  EXPECT_THAT(report.faults, testing::IsEmpty()) << report.numbers;
}

}  // namespace
}  // namespace deltaserve::test
