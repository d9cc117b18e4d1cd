#include "worker/comm/link_frames.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

// Frames read, as text: "H", "W", "X 2 70 cause".
class LinkFramesTest : public testing::Test {
 protected:
  bool Read(LinkFrameReader& reader, const std::string& bytes) {
    return reader.Read(
        bytes.data(), bytes.size(),
        {.on_frame = [this](LinkFrame frame) { read_.emplace_back(1, static_cast<char>(frame)); },
         .on_last_words =
             [this](const PeerLoss& root) {
               read_.push_back("X " + std::to_string(root.rank) + " " +
                               std::to_string(root.exit_code) + " " + root.cause);
             }});
  }

  std::vector<std::string> read_;
};

TEST_F(LinkFramesTest, ReadsFramesHoweverTheyAreCut) {
  const PeerLoss root = {.rank = 2, .host = "node-c", .cause = "HWBX", .exit_code = 72};
  const std::string bytes = "HW" + PackLastWords(root) + "HB";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    read_.clear();
    LinkFrameReader reader;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      ASSERT_TRUE(Read(reader, bytes.substr(at, piece)));
    }
    EXPECT_THAT(read_, ElementsAre("H", "W", "X 2 72 HWBX", "H", "B")) << piece;
  }
}

TEST_F(LinkFramesTest, CutsLongCausesAndTakesEmptyOnes) {
  LinkFrameReader reader;
  ASSERT_TRUE(Read(reader, PackLastWords({.rank = 1, .cause = std::string(100000, 'x')})));
  ASSERT_TRUE(Read(reader, PackLastWords({.rank = 1})));
  EXPECT_THAT(read_, ElementsAre("X 1 70 " + std::string(2000, 'x'), "X 1 70 "));
}

TEST_F(LinkFramesTest, RefusesBytesThatAreNoFrame) {
  LinkFrameReader reader;
  EXPECT_FALSE(Read(reader, "HG"));
  EXPECT_THAT(read_, ElementsAre("H"));
}

TEST_F(LinkFramesTest, RefusesLastWordsOfALengthThatNobodySends) {
  std::string bytes = PackLastWords({.rank = 1, .cause = "x"});
  bytes[11] = '\x7f';  // of the length's four bytes
  LinkFrameReader reader;
  EXPECT_FALSE(Read(reader, bytes));
}

}  // namespace
}  // namespace deltaserve
