#include "transport/interfaces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace treadle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

NetworkAddress address(std::string_view text) {
  const auto parsed = parse_address(text);
  EXPECT_TRUE(parsed) << text;
  return parsed.value_or(NetworkAddress{});
}

TEST(NetworkAddressTest, RoundTripsAsText) {
  for (const std::string text :
       {"10.0.0.2", "255.255.255.255", "0.0.0.0", "fd00::1", "::", "::1", "2001:db8:1:2:3:4:5:6"}) {
    EXPECT_EQ(to_text(address(text)), text);
    EXPECT_EQ(address(text).prefix_bits, text.find(':') == std::string::npos ? 32 : 128);
  }
  EXPECT_EQ(address("10.0.0.2/24").prefix_bits, 24);
  EXPECT_EQ(address("fd00::/0").prefix_bits, 0);
}

TEST(NetworkAddressTest, RefusesWhatIsNone) {
  for (const char* text :
       {"", "eth0", "10.0.0", "10.0.0.256", "10.0.0.2/", "10.0.0.2/33", "10.0.0.2/-1",
        "10.0.0.2/8x", "10.0.0.2 ", "fd00::1/129", "fd00:::1", "1.2.3.4:5", "/8"}) {
    EXPECT_FALSE(parse_address(text)) << text;
  }
}

struct BlockCase {
  std::string address;
  std::string block;
  bool inside;
};

TEST(NetworkAddressTest, IsInABlockByItsLeadingBits) {
  const std::vector<BlockCase> cases = {
      {"10.1.2.3", "10.1.2.0/24", true},
      {"10.1.3.3", "10.1.2.0/24", false},
      {"10.1.2.3", "10.1.2.3", true},
      {"10.1.2.3", "10.1.2.2", false},
      {"10.1.2.3", "0.0.0.0/0", true},
      {"10.1.2.130", "10.1.2.128/25", true},
      {"10.1.2.120", "10.1.2.128/25", false},
      {"fd00::1:2", "fd00::/64", true},
      {"fd01::1:2", "fd00::/64", false},
      {"fd01::1:2", "fd00::/15", true},
      {"::", "0.0.0.0/0", false},
      {"0.0.0.0", "::/0", false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(in_block(address(c.address), address(c.block)), c.inside)
        << c.address << " in " << c.block;
  }
}

std::vector<Interface> machine() {
  return {{"lo", address("127.0.0.1/8"), true},      {"docker0", address("172.17.0.1/16"), false},
          {"eth0", address("10.0.0.2/24"), false},   {"eth0", address("fe80::1/64"), false},
          {"eth0", address("fd00::2/64"), false},    {"ib0", address("192.168.7.2/24"), false},
          {"eth1", address("169.254.3.4/16"), false}};
}

std::vector<std::string> chosen(std::string_view spec) {
  std::vector<std::string> texts;
  for (const auto& i : choose_interfaces(machine(), spec)) texts.push_back(to_text(i.address));
  return texts;
}

TEST(ChooseInterfacesTest, FollowsTheSpecification) {
  EXPECT_THAT(chosen(""), ElementsAre("10.0.0.2", "fd00::2", "192.168.7.2", "172.17.0.1"));
  EXPECT_THAT(chosen("ib0"), ElementsAre("192.168.7.2"));
  EXPECT_THAT(chosen("ib0,eth0"), ElementsAre("10.0.0.2", "fe80::1", "fd00::2", "192.168.7.2"));
  EXPECT_THAT(chosen("10.0.0.2"), ElementsAre("10.0.0.2"));
  EXPECT_THAT(chosen("192.168.0.0/16,fd00::/8"), ElementsAre("fd00::2", "192.168.7.2"));
  EXPECT_THAT(chosen("lo"), ElementsAre("127.0.0.1"));
  EXPECT_THAT(chosen("docker0,,"), ElementsAre("172.17.0.1"));
  EXPECT_THAT(chosen("^eth0"), ElementsAre("192.168.7.2", "172.17.0.1"));
  EXPECT_THAT(chosen("^docker0,10.0.0.0/8"), ElementsAre("fd00::2", "192.168.7.2"));
}

TEST(ChooseInterfacesTest, ASpecificationThatLeavesNothingSaysWhatThereIs) {
  for (const char* spec : {"eth7", "10.9.0.0/16", "^0.0.0.0/0,::/0", "^", ","}) {
    try {
      choose_interfaces(machine(), spec);
      FAIL() << spec << " left something";
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::string("TREADLE_INTERFACE=") + spec));
    }
  }
  try {
    choose_interfaces(machine(), "eth7");
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("ib0 192.168.7.2/24"));
  }
  EXPECT_THAT(choose_interfaces({}, ""), IsEmpty()) << "a machine without a network";
}

TEST(RankAddressesTest, SharedSubnetsComeFirstAndOrderStays) {
  const std::vector<NetworkAddress> theirs = {address("172.17.0.5"), address("10.0.0.9"),
                                              address("fd00::9"), address("192.168.7.9")};
  const std::vector<NetworkAddress> ours = {address("192.168.7.2/24"), address("fd00::2/64")};
  EXPECT_THAT(rank_addresses(theirs, ours),
              ElementsAre(theirs[2], theirs[3], theirs[0], theirs[1]));
  EXPECT_EQ(rank_addresses(theirs, {}), theirs);
}

TEST(PortRangeTest, IsReadOrRefused) {
  EXPECT_EQ(parse_port_range(""), std::nullopt);
  EXPECT_EQ(parse_port_range("4000-4010"), std::pair(4000, 4010));
  EXPECT_EQ(parse_port_range("4000"), std::pair(4000, 4000));
  EXPECT_EQ(parse_port_range("1-65535"), std::pair(1, 65535));
  for (const char* text : {"0-10", "10-9", "1-65536", "-", "5-", "-5", "a-b", "1-2-3", " 1-2"}) {
    EXPECT_THROW(parse_port_range(text), std::invalid_argument) << text;
  }
}

TEST(ListInterfacesTest, FindsLoopbackWithItsSubnet) {
  const auto all = list_interfaces();
  const auto loopback = std::ranges::find_if(
      all, [](const Interface& i) { return i.is_loopback && to_text(i.address) == "127.0.0.1"; });
  if (loopback == all.end()) GTEST_SKIP() << "this machine has no 127.0.0.1";
  EXPECT_EQ(loopback->address.prefix_bits, 8);
}

}  // namespace
}  // namespace treadle
