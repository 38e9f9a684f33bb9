#include "transport/tcp/tcp.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <random>

#include "tests/code_of.h"
#include "tests/processes.h"
#include "tests/transport/transport_contract.h"

namespace treadle {
namespace {

TransportRow tcp_row() { return {"tcp", "", false, tcp_transport}; }

// Ranks of one host meet on loopback.
std::string shown(const std::string& address) {
  return fmt::format("127.0.0.1:{}", decode_tcp_address(address).port_v4);
}

INSTANTIATE_TEST_SUITE_P(Tcp, TransportContract,
                         testing::ValuesIn(on_both_lanes("tcp", tcp_row, shown)), case_name);

// ---- addresses ----

TEST(TcpAddressTest, HasFrozenBytes) {
  const TcpAddress address{.loopback = true,
                           .port_v4 = 0x1234,
                           .port_v6 = 0,
                           .addresses = {*parse_address("10.0.0.2/24")}};
  std::string expected("\x01\x34\x12\x00\x00\x01\x00\x18\x0a\x00\x00\x02", 12);
  expected += std::string(12, '\0');
  EXPECT_EQ(encode(address), expected);
  EXPECT_EQ(decode_tcp_address(expected), address);
}

TEST(TcpAddressTest, WhatMakesNoSenseIsCorrupt) {
  const std::string whole = encode(
      TcpAddress{.loopback = false,
                 .port_v4 = 1,
                 .port_v6 = 2,
                 .addresses = {*parse_address("10.0.0.2/24"), *parse_address("fd00::1/64")}});
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const std::string part = whole.substr(0, bytes);
    EXPECT_EQ(code_of([&] { decode_tcp_address(part); }), ErrorCode::kCorrupt) << bytes;
  }
  // Flags, number of addresses, family, prefix of an IPv4 address.
  for (const auto& [at, byte] : {std::pair(0, 2), {5, 129}, {6, 2}, {7, 33}}) {
    std::string changed = whole;
    changed[static_cast<std::size_t>(at)] = static_cast<char>(byte);
    EXPECT_EQ(code_of([&] { decode_tcp_address(changed); }), ErrorCode::kCorrupt) << at;
  }
}

TEST(TcpListenerTest, KeepsToTheRangeOfPorts) {
  ContractEndpoint first(tcp_row());
  const int taken = decode_tcp_address(first.address()).port_v4;
  Config config;
  config.port_range = fmt::format("{}", taken);
  Engine engine({.slice = kSlice, .start_thread = false});
  const auto accept = [](std::unique_ptr<Connection>) -> ConnectionEvents& {
    throw std::logic_error("nobody calls");
  };
  // Rather than listening with one family of addresses only.
  engine.run_on_loop([&] {
    const auto transport = tcp_transport({engine, config, Log(LogLevel::kError, 0)});
    try {
      transport->listen_on_loop(accept);
      FAIL() << "it listens on a port that is taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kSystem);
      EXPECT_THAT(error.what(), testing::HasSubstr("TREADLE_PORT_RANGE=" + config.port_range));
    }
  });
}

TEST(TcpListenerTest, NoUsableAddressIsSaid) {
  ContractEndpoint here(tcp_row());
  ContractEnd* end = nullptr;
  here.engine.run_on_loop([&] { end = &here.connect_on_loop(encode(TcpAddress{}), Lane::kData); });
  ASSERT_TRUE(here.wait([&] { return end->closed().has_value(); }));
  EXPECT_EQ(end->closed()->code(), ErrorCode::kPeerLost);
  EXPECT_THAT(end->closed()->what(), testing::HasSubstr("no address that this rank can use"));
}

TEST(TcpListenerTest, EveryAddressTriedIsNamedWithItsReason) {
  ContractEndpoint here(tcp_row());
  const auto port = static_cast<std::uint16_t>(free_port());
  const TcpAddress nobody{.loopback = true,
                          .port_v4 = port,
                          .port_v6 = 0,
                          .addresses = {*parse_address("127.0.0.2/8")}};
  ContractEnd* end = nullptr;
  here.engine.run_on_loop([&] { end = &here.connect_on_loop(encode(nobody), Lane::kData); });
  ASSERT_TRUE(here.wait([&] { return end->closed().has_value(); }));
  for (const char* host : {"127.0.0.1", "127.0.0.2"}) {
    EXPECT_THAT(end->closed()->what(), testing::HasSubstr(fmt::format("{}:{}", host, port)));
  }
  EXPECT_THAT(end->closed()->what(), testing::HasSubstr("refused"));
}

// ---- callers that keep to no protocol ----

class RawSocket {
 public:
  explicit RawSocket(const std::string& address) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    to.sin_port = ::htons(decode_tcp_address(address).port_v4);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  ~RawSocket() { ::close(fd_); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;
  void send(const std::string& bytes) const {
    EXPECT_EQ(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void reset() const {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  // The other side has hung up.
  bool await_end() const {
    pollfd wanted{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&wanted, 1, static_cast<int>(kSoon.count())) != 1) return false;
    char byte = 0;
    return ::recv(fd_, &byte, 1, 0) <= 0;
  }

 private:
  int fd_;
};

class TcpHostileTest : public testing::Test {
 protected:
  void expect_alive() {
    ContractEndpoint here(tcp_row());
    const auto address = there_.address();
    here.engine.run_on_loop([&] {
      here.connect_on_loop(address, Lane::kControl)
          .connection->post_on_loop({.header = {.kind = MessageKind::kData, .communicator = 99},
                                     .payload = {},
                                     .priority = kNormal,
                                     .done = nullptr,
                                     .segment = nullptr});
    });
    EXPECT_TRUE(there_.wait([&] {
      for (std::size_t i = 0; there_.accepted(i) != nullptr; ++i) {
        if (there_.accepted(i)->complete_count() == 1) return true;
      }
      return false;
    }));
  }
  ContractEndpoint there_{tcp_row()};
};

TEST_F(TcpHostileTest, StrangeBytesCloseThatConnectionOnly) {
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    std::string bytes(200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const RawSocket socket(there_.address());
    socket.send(i == 0 ? "GET / HTTP/1.1\r\nHost: treadle\r\nUser-Agent: someone who is lost and "
                         "has a long story to tell about it\r\n\r\n"
                       : bytes);
    EXPECT_TRUE(socket.await_end());
    const auto index = static_cast<std::size_t>(i);
    ASSERT_TRUE(there_.wait([&] {
      return there_.accepted(index) != nullptr && there_.accepted(index)->closed().has_value();
    }));
    EXPECT_EQ(there_.accepted(index)->closed()->code(), ErrorCode::kCorrupt);
  }
  expect_alive();
}

TEST_F(TcpHostileTest, SilenceHalfHeadersAndResetsHarmNobody) {
  std::vector<std::unique_ptr<RawSocket>> callers;
  for (int i = 0; i < 60; ++i) {
    callers.push_back(std::make_unique<RawSocket>(there_.address()));
    if (i % 3 == 1) callers.back()->send(std::string("\xe1\x7d\x01", 3));
    if (i % 3 == 2) callers.back()->reset();
  }
  expect_alive();
  callers.clear();
  expect_alive();
}

}  // namespace
}  // namespace treadle
