// The load of soak_test.cc for 20 minutes, or for DELTASERVE_SOAK_SECONDS, of seed
// DELTASERVE_SOAK_SEED.

#include <cstdio>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/soak.h"

namespace deltaserve::test {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  int64_t value = 0;
  const char* text = std::getenv(name);
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

TEST(SoakLongTest, NothingLeaksSticksOrDiffersUnderAMixedLoad) {
  const SoakReport report =
      RunSoak({.duration = absl::Seconds(FromEnvironment("DELTASERVE_SOAK_SECONDS", 1200)),
               .seed = static_cast<uint64_t>(FromEnvironment("DELTASERVE_SOAK_SEED", 1)),
               .most_growth_bytes = int64_t{4} << 20});
  std::printf("%s", report.numbers.c_str());
  EXPECT_THAT(report.faults, testing::IsEmpty());
}

}  // namespace
}  // namespace deltaserve::test
