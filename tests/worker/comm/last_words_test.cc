#include "worker/comm/last_words.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

// What stderr is to LastWords.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(ends_.data(), O_NONBLOCK | O_CLOEXEC), 0); }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int write_end() const { return ends_[1]; }

  std::string Read() {
    std::string text(1 << 17, '\0');
    const ssize_t got = read(ends_[0], text.data(), text.size());
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }

  void Fill() {
    const std::string bytes(4096, 'f');
    while (write(ends_[1], bytes.data(), bytes.size()) > 0) {
    }
  }

 private:
  std::array<int, 2> ends_{};
};

class LastWordsTest : public testing::Test {
 protected:
  LastWordsTest() {
    RankInfo info;
    info.rank = 1;
    info.size = 3;
    info.host = "node-b";
    LastWords::Options options;
    options.output_fd = output_.write_end();
    options.exit = [this](int code) { events_.push_back("exit " + std::to_string(code)); };
    last_words_ = std::make_unique<LastWords>(info, options);
    last_words_->SetFarewell([this](const PeerLoss& root) {
      farewell_ = root;
      written_at_farewell_ = output_.Read();
      events_.emplace_back("farewell");
    });
  }

  Pipe output_;
  std::vector<std::string> events_;
  PeerLoss farewell_;
  std::string written_at_farewell_;
  std::unique_ptr<LastWords> last_words_;
};

TEST_F(LastWordsTest, WritesTheCauseTellsTheOthersAndExits) {
  last_words_->Die(kExitDivergence, "plan after step 4: step is 6, expected 5");
  EXPECT_EQ(written_at_farewell_,
            "deltaserve-worker: rank 1 on node-b: plan after step 4: step is 6, expected 5\n");
  EXPECT_THAT(events_, ElementsAre("farewell", "exit 72"));
  EXPECT_EQ(farewell_.rank, 1);
  EXPECT_EQ(farewell_.host, "node-b");
  EXPECT_EQ(farewell_.cause, "plan after step 4: step is 6, expected 5");
  EXPECT_EQ(farewell_.exit_code, 72);
}

TEST_F(LastWordsTest, NamesThePeerThatItFollowsAndPassesItOn) {
  last_words_->DieOfPeer({.rank = 2, .host = "node-c", .cause = "killed", .exit_code = 72});
  EXPECT_EQ(written_at_farewell_,
            "deltaserve-worker: rank 1 on node-b: ends with rank 2 on node-c: killed\n");
  EXPECT_THAT(events_, ElementsAre("farewell", "exit 72"));
  EXPECT_EQ(farewell_.rank, 2);
  EXPECT_EQ(farewell_.cause, "killed");
}

TEST_F(LastWordsTest, ARankThatTheOthersGaveUpSaysSo) {
  last_words_->DieOfPeer({.rank = 1, .host = "node-b", .cause = "nothing heard from it for 10s"});
  EXPECT_EQ(written_at_farewell_,
            "deltaserve-worker: rank 1 on node-b: given up by the other ranks: nothing heard from "
            "it for 10s\n");
}

TEST_F(LastWordsTest, SpeaksOnce) {
  EXPECT_FALSE(last_words_->spoken());
  last_words_->Die(kExitWatchdog, "first");
  EXPECT_TRUE(last_words_->spoken());
  last_words_->Die(kExitRetry, "second");
  last_words_->DieOfPeer({.rank = 0, .host = "node-a", .cause = "third"});
  EXPECT_THAT(events_, ElementsAre("farewell", "exit 70"));
  EXPECT_EQ(output_.Read(), "");
}

TEST_F(LastWordsTest, WritesOneLineThatAPipeTakesWhole) {
  last_words_->SetFarewell(nullptr);
  last_words_->Die(kExitWatchdog, "two\nlines" + std::string(size_t{2} * PIPE_BUF, 'x'));
  const std::string text = output_.Read();
  EXPECT_LE(text.size(), size_t{PIPE_BUF});
  EXPECT_THAT(text, testing::StartsWith("deltaserve-worker: rank 1 on node-b: two linesxxx"));
  EXPECT_EQ(text.find('\n'), text.size() - 1);
}

TEST_F(LastWordsTest, DoesNotHangWhereNobodyReadsStderr) {
  output_.Fill();
  EXPECT_EQ(fcntl(output_.write_end(), F_SETFL, 0), 0);  // blocking, as stderr is
  last_words_->Die(kExitWatchdog, "unheard");
  EXPECT_THAT(events_, ElementsAre("farewell", "exit 70"));
}

TEST(LastWordsThreadsTest, ASecondCallerWaitsForTheEnd) {
  absl::Notification exiting, second_started;
  std::atomic<int> exits{0};
  Pipe output;
  LastWords::Options options;
  options.output_fd = output.write_end();
  options.exit = [&](int) {
    exiting.Notify();
    second_started.WaitForNotification();
    ++exits;
  };
  LastWords last_words({}, options);
  std::thread first([&] { last_words.Die(kExitWatchdog, "first"); });
  exiting.WaitForNotification();
  std::thread second([&] {
    second_started.Notify();
    last_words.Die(kExitWatchdog, "second");
    EXPECT_EQ(exits.load(), 1);  // not before the process would have ended
  });
  first.join();
  second.join();
  EXPECT_EQ(output.Read(), "deltaserve-worker: rank 0 on : first\n");
}

TEST(LastWordsDeathTest, EndsTheProcessWithItsCode) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  RankInfo info;
  info.host = "node-a";
  LastWords last_words(info, {});
  EXPECT_EXIT(last_words.Die(kExitNccl, "unhandled system error"), testing::ExitedWithCode(71),
              "^deltaserve-worker: rank 0 on node-a: unhandled system error\n$");
}

}  // namespace
}  // namespace deltaserve
