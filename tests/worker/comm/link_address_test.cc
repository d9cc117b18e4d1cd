#include "worker/comm/link_address.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr Ipv4 kLoopback = 0x7f000001;
constexpr Ipv4 kTen = 0x0a4d0002;     // 10.77.0.2
constexpr Ipv4 kDocker = 0xac110001;  // 172.17.0.1
const std::vector<Ipv4> kHost = {kLoopback, kDocker, kTen};

TEST(LinkAddressTest, StaysOnLoopbackWhereAllRanksAreOnOneHost) {
  const auto chosen = ChooseLinkAddresses("", /*all_on_one_host=*/true, kHost);
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->listen, kLoopback);
  EXPECT_THAT(chosen->offered, ElementsAre(kLoopback));
}

TEST(LinkAddressTest, OffersEveryAddressButLoopbackToOtherHosts) {
  const auto chosen = ChooseLinkAddresses("", /*all_on_one_host=*/false, kHost);
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen->listen, 0u);
  EXPECT_THAT(chosen->offered, ElementsAre(kDocker, kTen));
}

TEST(LinkAddressTest, TakesAnAddressOrANetwork) {
  for (const char* wanted : {"10.77.0.2", "10.77.0.0/24", "10.77.0.0/30", "10.0.0.0/8"}) {
    const auto chosen = ChooseLinkAddresses(wanted, /*all_on_one_host=*/false, kHost);
    ASSERT_TRUE(chosen.ok()) << wanted;
    EXPECT_EQ(chosen->listen, kTen) << wanted;
    EXPECT_THAT(chosen->offered, ElementsAre(kTen)) << wanted;
  }
  EXPECT_EQ(ChooseLinkAddresses("0.0.0.0/0", false, kHost)->listen, kLoopback);
  EXPECT_EQ(ChooseLinkAddresses("10.77.0.2/32", true, kHost)->listen, kTen);
}

TEST(LinkAddressTest, RefusesByNameWhatIsNotOfThisHost) {
  for (const char* wanted : {"10.77.0.3", "10.78.0.0/16", "10.77.0.0/31"}) {
    const absl::Status status = ChooseLinkAddresses(wanted, false, kHost).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(),
              std::string("control address \"") + wanted +
                  "\" is not of rank 0's host; it has 127.0.0.1, 172.17.0.1, 10.77.0.2");
  }
}

TEST(LinkAddressTest, RefusesWhatIsNoAddress) {
  for (const char* wanted : {"eth0", "10.77.0", "10.77.0.2/33", "10.77.0.2/", "10.77.0.2/-1",
                             "10.77.0.256", "::1", " 10.77.0.2", "10.77.0.2:80"}) {
    const absl::Status status = ChooseLinkAddresses(wanted, true, kHost).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << wanted;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is neither an IPv4 address nor"));
  }
}

TEST(LinkAddressTest, SaysThatOtherHostsCannotReachLoopback) {
  const absl::Status status = ChooseLinkAddresses("", false, {kLoopback}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("(it has 127.0.0.1)"));
}

TEST(LinkAddressTest, ListensInANetworkOrWhereItIsTold) {
  EXPECT_EQ(ResolveListen("10.0.0.0/8:50052", kHost).value(), "10.77.0.2:50052");
  EXPECT_EQ(ResolveListen("172.17.0.9/16:0", kHost).value(), "172.17.0.1:0");
  for (const char* as_it_is : {"node-a:1", "0.0.0.0:0", "[::]:50052", "10.77.0.9:1"}) {
    EXPECT_EQ(ResolveListen(as_it_is, kHost).value(), as_it_is);
  }
  EXPECT_EQ(ResolveListen("10.77.1.0/24:0", kHost).status().message(),
            "--listen is 10.77.1.0/24:0: rank 0's host has no address in 10.77.1.0/24; it has "
            "127.0.0.1, 172.17.0.1, 10.77.0.2");
  const absl::Status bad = ResolveListen("10.77.0/24:0", kHost).status();
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), HasSubstr("10.77.0/24 is no IPv4 network"));
}

TEST(LinkAddressTest, FindsLoopbackOnThisHost) {
  const auto host = HostAddresses();
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_THAT(*host, testing::Contains(kLoopback));
  const auto interfaces = HostInterfaces();
  ASSERT_TRUE(interfaces.ok()) << interfaces.status();
  EXPECT_THAT(*interfaces, testing::Contains(
                               testing::AllOf(testing::Field(&HostInterface::name, "lo"),
                                              testing::Field(&HostInterface::address, kLoopback))));
  EXPECT_EQ(FormatIpv4(kTen), "10.77.0.2");
}

}  // namespace
}  // namespace deltaserve
