#include "worker/replay/checksum.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

uint64_t Sum(const std::string& text, uint64_t seed = 0) {
  return Checksum64({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, seed);
}

// Published values of XXH64: of the shorter paths and of the four lanes.
TEST(ChecksumTest, IsXxh64) {
  EXPECT_EQ(Sum(""), 0xEF46DB3751D8E999u);
  EXPECT_EQ(Sum("a"), 0xD24EC4F1A98C6E5Bu);
  EXPECT_EQ(Sum("abc"), 0x44BC2CF5AD770999u);
  EXPECT_EQ(Sum("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
  EXPECT_EQ(Sum("xxhash", 20141025), 0xB559B98D844E0635u);
}

TEST(ChecksumTest, EveryByteCounts) {
  for (size_t length = 0; length < 100; ++length) {
    std::string text(length, 'x');
    std::set<uint64_t> sums = {Sum(text)};
    for (char& byte : text) {
      byte = static_cast<char>(byte ^ 0x80);  // as where a float changes its sign
      sums.insert(Sum(text));
    }
    EXPECT_EQ(sums.size(), length + 1);
  }
}

}  // namespace
}  // namespace deltaserve
