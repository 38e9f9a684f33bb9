// The contract of a Store, over all of them, and what is special about each.
#include "transport/store.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/error.h"
#include "transport/stores/tcp_store_protocol.h"

namespace treadle {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr milliseconds kSoon{20'000};  // far longer than needed

// A fresh directory that ends with its owner.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "treadle-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  std::string path() const { return path_; }

 private:
  std::string path_;
};

// A port that was free a moment ago.
int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
    throw std::runtime_error("no free port");
  }
  ::close(fd);
  return ::ntohs(address.sin_port);
}

std::pair<std::unique_ptr<Store>, std::string> serving_store() {
  for (int attempt = 0;; ++attempt) {
    const std::string where = fmt::format("127.0.0.1:{}", free_port());
    try {
      return {tcp_store(where, 0, Deadline::max()), where};
    } catch (const Error&) {
      if (attempt == 10) throw;  // somebody else was quicker, ten times
    }
  }
}

// Stores of `ranks` ranks that share one table.
struct StoreCase {
  std::string name;
  std::function<std::vector<std::unique_ptr<Store>>(int ranks, const std::string& directory)> make;
};

std::vector<StoreCase> all_stores() {
  using Stores = std::vector<std::unique_ptr<Store>>;
  return {
      {"memory",
       [](int ranks, const std::string&) {
         Stores stores;
         const auto map = memory_store_map();
         for (int r = 0; r < ranks; ++r) stores.push_back(memory_store(map));
         return stores;
       }},
      {"file",
       [](int ranks, const std::string& directory) {
         Stores stores;
         for (int r = 0; r < ranks; ++r) stores.push_back(file_store(directory + "/made/here"));
         return stores;
       }},
      {"tcp",
       [](int ranks, const std::string&) {
         Stores stores;
         auto [server, where] = serving_store();
         stores.push_back(std::move(server));
         for (int r = 1; r < ranks; ++r) {
           stores.push_back(tcp_store(where, r, deadline_after(kSoon)));
         }
         return stores;
       }},
  };
}

class StoreContract : public testing::TestWithParam<StoreCase> {
 protected:
  TemporaryDirectory directory_;
  std::vector<std::unique_ptr<Store>> stores_ = GetParam().make(3, directory_.path());
};

TEST_P(StoreContract, EveryRankSeesWhatOneSets) {
  for (int from = 0; from < 3; ++from) {
    const std::string key = fmt::format("from/{}", from);
    stores_[from]->set(key, fmt::format("value {}", from));
    for (const auto& store : stores_) {
      EXPECT_EQ(store->get(key, deadline_after(kSoon)), fmt::format("value {}", from));
    }
  }
}

TEST_P(StoreContract, SetReplaces) {
  stores_[1]->set("key", "a long first value");
  stores_[2]->set("key", "second");
  for (const auto& store : stores_) EXPECT_EQ(store->get("key", Clock::now()), "second");
}

TEST_P(StoreContract, ValuesAreBytes) {
  std::string every_byte;
  for (int c = 0; c < 256; ++c) every_byte += static_cast<char>(c);
  for (const std::string& value : {std::string(), every_byte, std::string(1 << 20, 'x')}) {
    stores_[1]->set("key", value);
    EXPECT_TRUE(stores_[2]->get("key", Clock::now()) == value) << value.size() << " bytes";
    EXPECT_TRUE(stores_[0]->get("key", Clock::now()) == value) << value.size() << " bytes";
  }
}

TEST_P(StoreContract, KeysThatLookAlikeAreDifferent) {
  const std::vector<std::string> keys = {"a/b", "a_b", "a_2fb", "a.b",       "a%2Fb",
                                         "A/B", "..",  ".",     "a/b/../c/", " "};
  for (const auto& key : keys) stores_[1]->set(key, "value of " + key);
  for (const auto& key : keys) EXPECT_EQ(stores_[2]->get(key, Clock::now()), "value of " + key);
}

TEST_P(StoreContract, AbsentKeyIsNothingAtTheDeadline) {
  for (const auto& store : stores_) {
    EXPECT_EQ(store->get("absent", Clock::now()), std::nullopt);
    EXPECT_EQ(store->get("absent", Deadline::min()), std::nullopt);
    const auto by = deadline_after(30ms);
    EXPECT_EQ(store->get("absent", by), std::nullopt);
    EXPECT_GE(Clock::now(), by) << "gave up early";
  }
}

TEST_P(StoreContract, GetWaitsForTheKey) {
  for (int from = 0; from < 3; ++from) {
    for (int at = 0; at < 3; ++at) {
      if (at == from) continue;
      const std::string key = fmt::format("{} to {}", from, at);
      std::thread setter([&] { stores_[from]->set(key, "here"); });
      EXPECT_EQ(stores_[at]->get(key, deadline_after(kSoon)), "here") << key;
      setter.join();
    }
  }
}

// While one rank waits for a key, the others go on: here the waiting one is what they release.
TEST_P(StoreContract, AWaitingRankKeepsNobodyFromTheStore) {
  std::optional<std::string> got;
  std::thread waiter([&] { got = stores_[1]->get("last", deadline_after(kSoon)); });
  for (int i = 0; i < 20; ++i) {
    stores_[2]->set("step", std::to_string(i));
    EXPECT_EQ(stores_[0]->get("step", Clock::now()), std::to_string(i));
  }
  stores_[2]->set("last", "done");
  waiter.join();
  EXPECT_EQ(got, "done");
}

TEST_P(StoreContract, AReaderSeesWholeValues) {
  const std::string ones(50'000, '1');
  const std::string twos(70'000, '2');
  stores_[1]->set("key", ones);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      stores_[1]->set("key", twos);
      stores_[1]->set("key", ones);
    }
  });
  for (int i = 0; i < 50; ++i) {
    const auto value = stores_[2]->get("key", deadline_after(kSoon));
    EXPECT_TRUE(value == ones || value == twos);
  }
  stop = true;
  writer.join();
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContract, testing::ValuesIn(all_stores()),
                         [](const auto& given) { return given.param.name; });

TEST(FileStoreTest, SaysWhyADirectoryCannotBeUsed) {
  try {
    file_store("/proc/treadle/none");
    FAIL() << "a directory was made in /proc";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr("/proc/treadle/none"));
  }
}

TEST(FileStoreTest, LeavesOnlyKeysBehind) {
  const TemporaryDirectory directory;
  const auto store = file_store(directory.path());
  for (int i = 0; i < 3; ++i) store->set("key", "value");
  int files = 0;
  for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator(directory.path())) {
    ++files;
  }
  EXPECT_EQ(files, 1);
}

TEST(TcpStoreTest, RefusesAddressesThatMakeNoSense) {
  for (const char* text : {"", "host", "host:", ":29500", "host:0", "host:65536", "host:-1",
                           "host:29500x", "::1:29500", "[]:29500"}) {
    EXPECT_THROW(tcp_store(text, 0, Clock::now()), std::invalid_argument) << text;
    EXPECT_THROW(tcp_store(text, 1, Clock::now()), std::invalid_argument) << text;
  }
}

TEST(TcpStoreTest, SpeaksIpv6InBrackets) {
  const int probe = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  socklen_t bytes = sizeof address;
  if (probe < 0 || ::bind(probe, reinterpret_cast<sockaddr*>(&address), bytes) != 0) {
    GTEST_SKIP() << "no IPv6 loopback on this machine";
  }
  ::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &bytes);
  ::close(probe);
  const std::string where = fmt::format("[::1]:{}", ::ntohs(address.sin6_port));
  const auto server = tcp_store(where, 0, Clock::now());
  const auto client = tcp_store(where, 1, deadline_after(kSoon));
  client->set("key", "value");
  EXPECT_EQ(server->get("key", Clock::now()), "value");
}

TEST(TcpStoreTest, ClientsRetryUntilRankZeroIsUp) {
  const std::string where = fmt::format("127.0.0.1:{}", free_port());
  std::optional<std::string> got;
  std::atomic<bool> calling{false};
  std::thread client([&] {
    calling = true;
    got = tcp_store(where, 1, deadline_after(kSoon))->get("key", deadline_after(kSoon));
  });
  while (!calling) std::this_thread::yield();
  const auto server = tcp_store(where, 0, Clock::now());
  server->set("key", "late");
  client.join();
  EXPECT_EQ(got, "late");
}

TEST(TcpStoreTest, SaysThatNobodyAnswers) {
  const std::string where = fmt::format("127.0.0.1:{}", free_port());
  try {
    tcp_store(where, 1, deadline_after(50ms));
    FAIL() << "connected to nobody";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr(where));
    EXPECT_THAT(error.what(), HasSubstr("rank 0"));
  }
}

TEST(TcpStoreTest, SaysThatAPortIsTaken) {
  const auto [server, where] = serving_store();
  try {
    tcp_store(where, 0, Clock::now());
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr(where));
  }
}

// A server that is made again on the same port is found again by its clients.
TEST(TcpStoreTest, ClientsReconnect) {
  auto [server, where] = serving_store();
  const auto client = tcp_store(where, 1, deadline_after(kSoon));
  client->set("key", "first");
  server.reset();
  server = tcp_store(where, 0, Clock::now());
  EXPECT_EQ(client->get("key", Clock::now()), std::nullopt);
  client->set("key", "second");
  EXPECT_EQ(server->get("key", Clock::now()), "second");
}

TEST(TcpStoreTest, RefusesWhatIsTooLarge) {
  const auto [server, where] = serving_store();
  const auto client = tcp_store(where, 1, deadline_after(kSoon));
  const std::string large((1 << 20) + 1, 'x');
  for (Store* store : {server.get(), client.get()}) {
    EXPECT_THROW(store->set("key", large), Error);
    EXPECT_THROW(store->set(std::string(1025, 'k'), ""), Error);
    EXPECT_EQ(store->get("key", Clock::now()), std::nullopt);
  }
}

// A client that speaks bytes.
class RawClient {
 public:
  explicit RawClient(const std::string& where) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    address.sin_port =
        ::htons(static_cast<std::uint16_t>(std::stoi(where.substr(where.rfind(':') + 1))));
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("connect");
    }
  }
  ~RawClient() { ::close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void send(std::string_view bytes) const { ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void send(ConstBytes bytes) const { ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void end() const { ::shutdown(fd_, SHUT_WR); }
  std::size_t receive_until_closed() const {
    std::array<char, 4096> buffer;
    std::size_t bytes = 0;
    for (ssize_t got = 1; got > 0; bytes += static_cast<std::size_t>(std::max<ssize_t>(got, 0))) {
      got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    }
    return bytes;
  }

 private:
  int fd_;
};

TEST(TcpStoreTest, ClosingTheServerEndsGetsThatWait) {
  auto [server, where] = serving_store();
  const RawClient client(where);
  client.send(store_frame(StoreRequest{StoreAction::kGet, 3'600'000, "never", {}}));
  // Answered after the one before, so the server has seen that one.
  tcp_store(where, 1, deadline_after(kSoon))->set("key", "value");
  server.reset();
  EXPECT_EQ(client.receive_until_closed(), 0u);
}

TEST(TcpStoreTest, RequestsSentTogetherAreAnsweredInTurn) {
  const auto [server, where] = serving_store();
  server->set("key", "value");
  std::vector<std::byte> both = store_frame(StoreRequest{StoreAction::kGet, 0, "absent", {}});
  const auto second = store_frame(StoreRequest{StoreAction::kGet, 0, "key", {}});
  both.insert(both.end(), second.begin(), second.end());
  const RawClient client(where);
  client.send(both);
  client.end();
  const auto expected = store_frame(StoreReply{StoreStatus::kAbsent, {}}).size() +
                        store_frame(StoreReply{StoreStatus::kDone, "value"}).size();
  EXPECT_EQ(client.receive_until_closed(), expected);
}

TEST(TcpStoreTest, HostileClientsHarmNobody) {
  using namespace std::string_literals;
  const auto [server, where] = serving_store();
  const auto client = tcp_store(where, 1, deadline_after(kSoon));
  for (const std::string& bytes :
       {""s, "\x01"s, "GET / HTTP/1.1\r\n\r\n"s, "\xff\xff\xff\xff"s, "\0\0\0\0"s,
        "\x04\0\0\0\x01\x57\xe1\x7d"s, std::string(300'000, '\xee')}) {
    const RawClient hostile(where);
    hostile.send(bytes);
    hostile.end();
    EXPECT_EQ(hostile.receive_until_closed(), 0u);
    client->set("key", "value");
    EXPECT_EQ(server->get("key", Clock::now()), "value");
  }
}

}  // namespace
}  // namespace treadle
