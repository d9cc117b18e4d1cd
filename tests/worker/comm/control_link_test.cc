#include "worker/comm/control_link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/barrier.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/link_handshake.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Longer than any machine is slow; tests that pass never wait so long.
constexpr absl::Duration kPatience = absl::Seconds(60);

// The losses that one rank is told of, as "rank on host: cause (exit code)".
class Losses {
 public:
  OnPeerLost Recorder() {
    return [this](const PeerLoss& loss) {
      const absl::MutexLock lock(&mutex_);
      losses_.push_back(
          absl::StrCat(loss.rank, " on ", loss.host, ": ", loss.cause, " (", loss.exit_code, ")"));
    };
  }

  // All that were told, as soon as there are `count`.
  std::vector<std::string> Await(size_t count) {
    const absl::MutexLock lock(&mutex_);
    const auto enough = [this, count]()
                            ABSL_NO_THREAD_SAFETY_ANALYSIS { return losses_.size() >= count; };
    mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience);
    return losses_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> losses_ ABSL_GUARDED_BY(mutex_);
};

constexpr const char* kHost = "thread-world";
constexpr const char* kDeath = "its control link closed: killed or crashed (70)";

// What both kinds of link must do.
class ControlLinkTest : public testing::TestWithParam<bool> {
 protected:
  static constexpr int kSize = 3;

  // Runs all ranks, each with its link, and its losses in losses_[rank].
  void Run(const std::function<void(int rank, std::unique_ptr<ControlLink> link)>& body) {
    ThreadWorld world(kSize);
    RunRanks(kSize, [&](int rank) {
      OnPeerLost recorder = losses_[rank].Recorder();
      if (GetParam()) {
        body(rank, CreateThreadControlLink(world, rank, std::move(recorder)));
        return;
      }
      auto link = CreateTcpControlLink(world.world(rank), {}, std::move(recorder));
      ASSERT_TRUE(link.ok()) << link.status();
      body(rank, *std::move(link));
    });
  }

  // Waits for the other ranks.
  void Barrier(int index) { barriers_[index]->Block(); }

  Losses losses_[kSize];
  std::unique_ptr<absl::Barrier> barriers_[4] = {
      std::make_unique<absl::Barrier>(kSize), std::make_unique<absl::Barrier>(kSize),
      std::make_unique<absl::Barrier>(kSize), std::make_unique<absl::Barrier>(kSize)};
};

TEST_P(ControlLinkTest, WakesThatComeBeforeTheWaitAreCountedNotLost) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 0) {
      for (int i = 0; i < 3; ++i) link->Wake();
      Barrier(0);
    } else {
      Barrier(0);
      for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(link->WaitForWake(absl::Now() + kPatience).ok()) << i;
      }
      EXPECT_EQ(link->WaitForWake(absl::Now() + absl::Milliseconds(20)).code(),
                absl::StatusCode::kDeadlineExceeded);
    }
    Barrier(1);
    link->Close();
  });
}

TEST_P(ControlLinkTest, WakesRanksThatWait) {
  constexpr int kRounds = 200;
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    for (int i = 0; i < kRounds; ++i) {
      if (rank == 0) {
        link->Wake();
      } else {
        const absl::Status woken = link->WaitForWake(absl::Now() + kPatience);
        EXPECT_TRUE(woken.ok()) << i << ": " << woken;
        if (!woken.ok()) break;
      }
    }
    Barrier(0);
    link->Close();
  });
}

TEST_P(ControlLinkTest, CloseIsNoDeathInWhateverOrder) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 1) link->Close();
    if (rank == 1) link.reset();
    Barrier(0);
    if (rank == 0) link->Close();
    if (rank == 0) link.reset();
    if (rank == 2) {
      const absl::Status status = link->WaitForWake(absl::Now() + kPatience);
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ(status.message(), "rank 0 has closed its control link");
      link->Close();
      link->Close();
      link.reset();
    }
    Barrier(1);
    for (Losses& losses : losses_) EXPECT_THAT(losses.Await(0), IsEmpty());
  });
}

TEST_P(ControlLinkTest, RankZeroHearsOfADeathAtOnceAndTellsTheOthers) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 1) link.reset();
    if (rank == 0) {
      EXPECT_THAT(losses_[0].Await(1), ElementsAre(absl::StrCat("1 on ", kHost, ": ", kDeath)));
      link->SendLastWords({.rank = 1, .host = kHost, .cause = "it died", .exit_code = 71});
    }
    if (rank == 2) {
      EXPECT_THAT(losses_[2].Await(1), ElementsAre(absl::StrCat("1 on ", kHost, ": it died (71)")));
      EXPECT_THAT(std::string(link->WaitForWake(absl::InfiniteFuture()).message()),
                  HasSubstr("lost rank 1"));
    }
    Barrier(0);
    if (rank != 1) link->Close();
    EXPECT_THAT(losses_[1].Await(0), IsEmpty());
  });
}

TEST_P(ControlLinkTest, OthersHearOfTheDeathOfRankZero) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 0) link.reset();
    if (rank != 0) {
      EXPECT_THAT(losses_[rank].Await(1), ElementsAre(absl::StrCat("0 on ", kHost, ": ", kDeath)));
      EXPECT_EQ(link->WaitForWake(absl::InfiniteFuture()).code(), absl::StatusCode::kUnavailable);
    }
    Barrier(0);
    if (rank != 0) link->Close();
  });
}

TEST_P(ControlLinkTest, LastWordsAreHeardInPlaceOfTheDeathThatFollows) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 2) {
      link->SendLastWords({.rank = 2, .host = kHost, .cause = "step 9", .exit_code = 72});
      link.reset();
    }
    if (rank == 0) {
      EXPECT_THAT(losses_[0].Await(1), ElementsAre(absl::StrCat("2 on ", kHost, ": step 9 (72)")));
    }
    Barrier(0);
    if (rank == 0) {
      EXPECT_EQ(losses_[0].Await(1).size(), 1u);
    }
    if (rank != 2) link->Close();
  });
}

TEST_P(ControlLinkTest, ARankThatIsGivenUpHearsOfIt) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 0) link->SendLastWords({.rank = 1, .host = kHost, .cause = "silent"});
    if (rank != 0) {
      EXPECT_THAT(losses_[rank].Await(1),
                  ElementsAre(absl::StrCat("1 on ", kHost, ": silent (70)")));
    }
    Barrier(0);
    link->Close();
  });
}

TEST_P(ControlLinkTest, AWakeBeforeTheDeathOfRankZeroStillCounts) {
  Run([&](int rank, std::unique_ptr<ControlLink> link) {
    if (rank == 0) {
      link->Wake();
      link.reset();
    }
    if (rank == 1) {
      losses_[1].Await(1);
      EXPECT_TRUE(link->WaitForWake(absl::InfiniteFuture()).ok());
      EXPECT_EQ(link->WaitForWake(absl::InfiniteFuture()).code(), absl::StatusCode::kUnavailable);
    }
    Barrier(0);
    if (rank != 0) link->Close();
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, ControlLinkTest, testing::Bool(), [](const auto& tested) {
  return tested.param ? "Threads" : "Tcp";
});

// A rank 1 that has linked up and then does what the test says: it neither beats nor closes.
class TcpControlLinkTest : public testing::Test {
 protected:
  // `options` are rank 0's.
  void Run(const ControlLinkOptions& options,
           const std::function<void(ControlLink& link)>& rank_0,
           const std::function<void(int socket)>& rank_1) {
    ThreadWorld world(2);
    RunRanks(2, [&](int rank) {
      if (rank == 1) {
        Descriptor link = LinkUp(world.world(1));
        rank_1(link.fd());
        world.world(1).Barrier();
        return;
      }
      auto link = CreateTcpControlLink(world.world(0), options, losses_.Recorder());
      ASSERT_TRUE(link.ok()) << link.status();
      rank_0(**link);
      world.world(0).Barrier();
      (*link)->Close();
    });
  }

  static Descriptor LinkUp(World& world) {
    world.AllGather("quiet-host");
    EXPECT_TRUE(world.AgreeOnStatus(absl::OkStatus()).ok());
    const auto invitation = LinkInvitation::Unpack(world.BroadcastFromZero(""));
    absl::StatusOr<Descriptor> link = ConnectLink(invitation, 1, kPatience);
    EXPECT_TRUE(world.AgreeOnStatus(link.status()).ok());
    return *std::move(link);
  }

  Losses losses_;
};

TEST_F(TcpControlLinkTest, APeerThatFallsSilentIsLost) {
  ControlLinkOptions options;
  options.heartbeat = absl::Milliseconds(10);
  options.silence = absl::Milliseconds(100);
  Run(
      options,
      [&](ControlLink&) {
        EXPECT_THAT(
            losses_.Await(1),
            ElementsAre("1 on quiet-host: nothing heard from it for 100ms: process stopped, "
                        "host dead or network cut (70)"));
      },
      [](int) {});
}

TEST_F(TcpControlLinkTest, APeersAgeIsThatOfItsLastWord) {
  absl::Notification speak, leave;
  Run(
      {},
      [&](ControlLink& link) {
        const auto await = [&link](const std::function<bool(const std::vector<PeerAge>&)>& what) {
          const absl::Time end = absl::Now() + kPatience;
          while (!what(link.PeerAges()) && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
          return what(link.PeerAges());
        };
        EXPECT_TRUE(await([](const auto& ages) {
          return ages.size() == 1 && ages[0].rank == 1 && ages[0].age > absl::Milliseconds(200);
        }));
        speak.Notify();
        EXPECT_TRUE(await([](const auto& ages) {
          return ages.size() == 1 && ages[0].age < absl::Milliseconds(150);
        }));
        leave.Notify();
        EXPECT_TRUE(await([](const auto& ages) { return ages.empty(); }));
      },
      [&](int socket) {
        speak.WaitForNotification();
        EXPECT_EQ(send(socket, "H", 1, 0), 1);
        leave.WaitForNotification();
        EXPECT_EQ(send(socket, "B", 1, 0), 1);
      });
  EXPECT_THAT(losses_.Await(0), IsEmpty());
}

TEST_F(TcpControlLinkTest, APeerThatSpeaksNonsenseIsLost) {
  Run(
      {},
      [&](ControlLink&) {
        EXPECT_THAT(losses_.Await(1), ElementsAre(HasSubstr("bytes that no rank sends")));
      },
      [](int socket) { EXPECT_EQ(send(socket, "GET /", 5, 0), 5); });
}

TEST_F(TcpControlLinkTest, BeatsAndWakesTravelAsBytes) {
  ControlLinkOptions options;
  options.heartbeat = absl::Milliseconds(1);
  Run(
      options, [&](ControlLink& link) { link.Wake(); },
      [](int socket) {
        std::string heard;
        const absl::Time deadline = absl::Now() + kPatience;
        while ((heard.size() < 20 || heard.find('W') == std::string::npos) &&
               absl::Now() < deadline) {
          pollfd readable = {.fd = socket, .events = POLLIN, .revents = 0};
          char byte = 0;
          if (poll(&readable, 1, /*timeout ms=*/100) == 1 && recv(socket, &byte, 1, 0) == 1) {
            heard.push_back(byte);
          }
        }
        EXPECT_EQ(std::count(heard.begin(), heard.end(), 'W'), 1);
        EXPECT_GE(std::count(heard.begin(), heard.end(), 'H'), 19);
      });
}

TEST(TcpControlLinkPairTest, HeartbeatsKeepPeersThatHaveNothingToSayAlive) {
  ThreadWorld world(2);
  Losses losses[2];
  RunRanks(2, [&](int rank) {
    ControlLinkOptions options;
    options.heartbeat = absl::Milliseconds(20);
    options.silence = absl::Milliseconds(600);
    auto link = CreateTcpControlLink(world.world(rank), options, losses[rank].Recorder());
    ASSERT_TRUE(link.ok()) << link.status();
    // Twice the silence that would end it.
    if (rank == 1) {
      EXPECT_EQ((*link)->WaitForWake(absl::Now() + 2 * options.silence).code(),
                absl::StatusCode::kDeadlineExceeded);
    }
    world.world(rank).Barrier();
    EXPECT_THAT(losses[rank].Await(0), IsEmpty());
    (*link)->Close();
  });
}

TEST(TcpControlLinkPairTest, BadOptionsEndEveryRankWithOneMessage) {
  const struct {
    ControlLinkOptions options;
    const char* needle;
  } kCases[] = {{{.address = "no-address"}, "control address \"no-address\""},
                {{.address = "192.0.2.77"}, "is not of rank 0's host"},
                {{.heartbeat = absl::Seconds(8)}, "too short for a heartbeat each 8s"},
                {{.heartbeat = absl::ZeroDuration()}, "a heartbeat of 1ms or more"}};
  for (const auto& test : kCases) {
    ThreadWorld world(3);
    RunRanks(3, [&](int rank) {
      const auto link = CreateTcpControlLink(
          world.world(rank), rank == 0 ? test.options : ControlLinkOptions{}, [](const auto&) {});
      EXPECT_EQ(link.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(link.status().message()), HasSubstr(test.needle));
    });
  }
}

TEST(TcpControlLinkPairTest, AWorldOfOneNeedsNoNetwork) {
  ThreadWorld world(1);
  const auto link = CreateTcpControlLink(world.world(0), {.address = "no-address"}, nullptr);
  ASSERT_TRUE(link.ok());
  (*link)->Wake();
  (*link)->SendLastWords({});
  (*link)->Close();
}

class LinkHandshakeTest : public testing::Test {
 protected:
  LinkHandshakeTest() : listener_(ListenForLinks({0x7f000001, {0x7f000001}}).value()) {}

  // A connection of somebody who then sends `bytes`.
  Descriptor Stranger(const std::string& bytes) {
    Descriptor stranger(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(0x7f000001);
    address.sin_port = htons(listener_.invitation.port);
    EXPECT_EQ(connect(stranger.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(send(stranger.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    return stranger;
  }

  // The reply by which rank `rank` shows that it is one.
  static std::string Answer(const LinkInvitation::Token& token, uint32_t rank) {
    std::string bytes(reinterpret_cast<const char*>(token.data()), token.size());
    return bytes.append(reinterpret_cast<const char*>(&rank), sizeof(rank));
  }

  LinkListener listener_;
};

TEST_F(LinkHandshakeTest, StrangersAreTurnedAwayAndDoNotKeepRanksOut) {
  LinkInvitation::Token wrong = listener_.invitation.answer;
  wrong[15] ^= 1;
  const auto& right = listener_.invitation.answer;
  std::vector<Descriptor> strangers;
  strangers.push_back(Stranger(""));  // says nothing, stays
  strangers.push_back(Stranger("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  strangers.push_back(Stranger(Answer(wrong, 1)));
  strangers.push_back(Stranger(Answer(right, 0)));
  strangers.push_back(Stranger(Answer(right, 3)));
  RunRanks(3, [&](int rank) {
    if (rank == 0) {
      const auto links = AcceptLinks(listener_, {"a", "b", "c"}, kPatience);
      ASSERT_TRUE(links.ok()) << links.status();
      EXPECT_FALSE((*links)[0].open());
      // Each socket leads to the rank that it stands for.
      for (const size_t peer : {1u, 2u}) {
        const char number = static_cast<char>('0' + peer);
        EXPECT_EQ(send((*links)[peer].fd(), &number, 1, 0), 1);
      }
      return;
    }
    const auto link = ConnectLink(listener_.invitation, rank, kPatience);
    ASSERT_TRUE(link.ok()) << link.status();
    char byte = 0;
    while (recv(link->fd(), &byte, 1, 0) < 0 && errno == EAGAIN) {
    }
    EXPECT_EQ(byte, '0' + rank);
  });
  // All but the silent one were closed, with no assent behind the greeting.
  for (size_t i = 1; i < strangers.size(); ++i) {
    std::string heard(64, '\0');
    size_t total = 0;
    ssize_t got = 0;
    while ((got = recv(strangers[i].fd(), heard.data(), heard.size(), 0)) > 0) {
      total += static_cast<size_t>(got);
    }
    EXPECT_EQ(total, listener_.invitation.greeting.size()) << i;
  }
}

TEST_F(LinkHandshakeTest, NamesTheRanksThatDidNotCome) {
  RunRanks(2, [&](int rank) {
    if (rank == 1) {
      EXPECT_TRUE(ConnectLink(listener_.invitation, 1, kPatience).ok());
      return;
    }
    const auto links = AcceptLinks(listener_, {"a", "b", "c", "d"}, absl::Milliseconds(500));
    EXPECT_EQ(links.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(links.status().message()),
                testing::AllOf(HasSubstr("rank 2 on c, rank 3 on d did not reach rank 0 on a at "
                                         "127.0.0.1 port "),
                               HasSubstr("within 500ms: let TCP through")));
  });
}

TEST_F(LinkHandshakeTest, TriesTheNextAddressAndDoesNotTellStrangersTheSecret) {
  // 127.0.0.2: another program, which greets wrongly on the same port.
  Descriptor other(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x7f000002);
  address.sin_port = htons(listener_.invitation.port);
  ASSERT_EQ(bind(other.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(other.fd(), 1), 0);
  LinkInvitation invitation = listener_.invitation;
  invitation.addresses = {0x7f000003, 0x7f000002, 0x7f000001};  // nobody, another, rank 0
  RunRanks(3, [&](int thread) {
    if (thread == 0) {
      EXPECT_TRUE(AcceptLinks(listener_, {"a", "b"}, kPatience).ok());
    } else if (thread == 1) {
      const auto link = ConnectLink(invitation, 1, kPatience);
      EXPECT_TRUE(link.ok()) << link.status();
    } else {
      Descriptor guest(accept4(other.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      EXPECT_EQ(send(guest.fd(), "0123456789abcdef", 16, 0), 16);
      char byte = 0;
      EXPECT_LE(recv(guest.fd(), &byte, 1, 0), 0);
    }
  });
}

TEST_F(LinkHandshakeTest, TellsHowEachAddressFailed) {
  LinkInvitation invitation = listener_.invitation;
  invitation.addresses = {0x7f000003};
  const auto link = ConnectLink(invitation, 2, kPatience);
  EXPECT_EQ(link.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(link.status().message()),
              testing::AllOf(HasSubstr("rank 2 cannot reach rank 0 at port"),
                             HasSubstr("(127.0.0.3: connect: Connection refused)")));
}

}  // namespace
}  // namespace deltaserve
