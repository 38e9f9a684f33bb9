// A rank that knows how to join and then keeps to no protocol: whatever it says, the other one's
// operation ends in an error by its deadline, and nothing worse happens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>

#include "core/wire.h"
#include "tests/world.h"
#include "transport/bootstrap.h"

namespace treadle {
namespace {

using testing::HasSubstr;

constexpr std::chrono::seconds kSoon{20};

// Rank 1, played by the test: answers hellos and otherwise says what it is told to.
class PlayedRank {
 public:
  explicit PlayedRank(const std::shared_ptr<MemoryStoreMap>& map, const TransportRow& row)
      : store_(memory_store(map)), row_(row) {
    engine_.run_on_loop([&] {
      transport_ = row_.make({engine_, config_, Log(LogLevel::kError, 1)});
      listener_ =
          transport_->listen_on_loop([this](std::unique_ptr<Connection> c) -> ConnectionEvents& {
            links_.push_back(std::make_unique<Link>(*this));
            links_.back()->connection = std::move(c);
            return *links_.back();
          });
    });
    PeerInfo mine{.nonce = 11, .host_id = this_host_id(config_), .settings = {}, .addresses = {}};
    engine_.run_on_loop([&] { mine.addresses = {{"memory", listener_->address()}}; });
    roster_ = Bootstrap(*store_, 1, 2, mine).run();
  }
  ~PlayedRank() {
    engine_.run_on_loop([this] {
      links_.clear();
      listener_.reset();
      transport_.reset();
    });
  }

  std::vector<std::byte> hello(std::uint32_t from = 1, std::uint32_t to = 0,
                               std::uint8_t lane = 0) const {
    WireBuffer bytes;
    bytes.put(roster_.run_id);
    bytes.put(roster_.peers[0].nonce);
    bytes.put(from);
    bytes.put(to);
    bytes.put(lane);
    return bytes.take();
  }
  // A new connection to rank 0; messages go out in order.
  void call(std::vector<std::pair<MessageHeader, std::vector<std::byte>>> messages,
            Lane lane = Lane::kControl) {
    engine_.run_on_loop([&] {
      links_.push_back(std::make_unique<Link>(*this));
      Link& link = *links_.back();
      link.connection =
          transport_->connect_on_loop(roster_.peers[0].addresses.at(0).second, lane, true, link);
      for (auto& [header, payload] : messages) {
        sent_.push_back(std::move(payload));
        // An empty payload keeps the total that the header says.
        link.connection->post_on_loop({.header = header,
                                       .payload = sent_.back(),
                                       .priority = kNormal,
                                       .done = nullptr,
                                       .segment = nullptr});
      }
    });
  }
  bool wait(const std::function<bool()>& done) {
    return engine_.wait_until(done, deadline_after(kSoon));
  }

  std::atomic<std::uint64_t> communicator{0};  // of the first message that names one
  std::atomic<int> ends{0};                    // of connections

 private:
  struct Link final : ConnectionEvents {
    explicit Link(PlayedRank& rank) : owner(rank) {}
    std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override {
      landing.resize(header.size_bytes);
      return Bytes(landing);
    }
    void on_payload_on_loop(const MessageHeader& header, std::shared_ptr<SharedSegment>) override {
      if (header.communicator != 0) owner.communicator = header.communicator;
      if (header.kind == MessageKind::kHello) {
        connection->post_on_loop({.header = {.kind = MessageKind::kHelloReply},
                                  .payload = accepted,
                                  .priority = kUrgent,
                                  .done = nullptr,
                                  .segment = nullptr});
      }
      owner.engine_.notify_waiters_on_loop();
    }
    void on_closed_on_loop(const Error&) override {
      connection.reset();
      ++owner.ends;
      owner.engine_.notify_waiters_on_loop();
    }
    PlayedRank& owner;
    std::unique_ptr<Connection> connection;
    std::vector<std::byte> landing;
    const std::vector<std::byte> accepted = std::vector<std::byte>(4);  // an empty refusal
  };

  Config config_;
  std::unique_ptr<Store> store_;
  TransportRow row_;
  Engine engine_{{.slice = milliseconds(1000), .start_thread = true}};
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Listener> listener_;
  std::deque<std::unique_ptr<Link>> links_;
  std::deque<std::vector<std::byte>> sent_;
  Roster roster_;
};

std::vector<std::byte> bytes(const std::function<void(WireBuffer&)>& fill) {
  WireBuffer buffer;
  fill(buffer);
  return buffer.take();
}

struct Strange {
  std::string name;
  MessageHeader header;
  std::vector<std::byte> payload;
};
void PrintTo(const Strange& strange, std::ostream* out) { *out << strange.name; }

std::vector<Strange> strange_messages() {
  const auto failure = [](std::uint8_t code, std::int32_t rank, const std::string& text) {
    return bytes([&](WireBuffer& b) {
      b.put(code);
      b.put(rank);
      b.put_string(text);
    });
  };
  const auto origin = [](std::int32_t rank) { return bytes([&](WireBuffer& b) { b.put(rank); }); };
  const auto announcement = [](std::int32_t rank, std::uint8_t byte, std::size_t size) {
    return bytes([&](WireBuffer& b) {
      b.put(rank);
      b.put_bytes(std::vector<std::byte>(size, std::byte{byte}));
    });
  };
  const MessageHeader fail{.kind = MessageKind::kFailure};
  const MessageHeader beat{.kind = MessageKind::kHeartbeat};
  const MessageHeader bye{.kind = MessageKind::kGoodbye};
  return {
      {"failure_empty", fail, {}},
      {"failure_without_text", fail, bytes([](WireBuffer& b) { b.put(std::uint8_t{1}); })},
      {"failure_unknown_code", fail, failure(255, 1, "what")},
      {"failure_of_a_rank_that_is_none", fail, failure(1, 99, "what")},
      {"failure_of_a_negative_rank", fail, failure(1, -7, "what")},
      {"failure_text_too_long", fail, failure(1, 1, std::string(5000, 'x'))},
      {"failure_text_is_binary", fail, failure(1, 1, std::string("\0\xff{}\n%s", 7))},
      {"announcement_empty", beat, {}},
      {"announcement_truncated", beat, announcement(1, 0, 31)},
      {"announcement_too_long", beat, announcement(1, 0, 33)},
      {"announcement_nonsense", beat, announcement(1, 0xff, 32)},
      {"announcement_of_a_rank_that_is_none", beat, announcement(2, 0, 32)},
      {"announcement_of_a_negative_rank", beat, announcement(-1, 0, 32)},
      {"announcement_of_the_receiver", beat, announcement(0, 0, 32)},
      {"goodbye_empty", bye, {}},
      {"goodbye_of_a_rank_that_is_none", bye, origin(2)},
      {"goodbye_of_a_negative_rank", bye, origin(INT32_MIN)},
      {"goodbye_of_the_receiver", bye, origin(0)},
      {"consumed_more_than_was_sent",
       {.kind = MessageKind::kConsumed, .consumed_bytes = 1 << 20},
       {}},
      {"grant_of_what_was_never_asked",
       {.kind = MessageKind::kGrant, .sequence = 5, .tag = 1, .lane = 7, .step = 9},
       {}},
      {"announce_of_a_huge_message",
       {.kind = MessageKind::kAnnounce, .total_bytes = UINT64_MAX, .lane = UINT32_MAX},
       {}},
      {"segment_that_is_not_there", {.kind = MessageKind::kSegment}, {}},
      {"data_on_the_control_lane", {.kind = MessageKind::kData}, {}},
      {"a_second_hello", {.kind = MessageKind::kHello}, std::vector<std::byte>(29)},
      {"a_hello_reply", {.kind = MessageKind::kHelloReply}, std::vector<std::byte>(4)},
  };
}

class HostilePeerTest : public testing::TestWithParam<Strange> {
 protected:
  HostilePeerTest() : row_(memory_row(memory_hub())) {
    Config config;
    config.log_level = "error";
    context_ = Context::create({.rank = 0,
                                .ranks = 2,
                                .store = memory_store(map_),
                                .config = config,
                                .transports = {row_}});
    peer_ = std::make_unique<PlayedRank>(map_, row_);
  }
  const std::shared_ptr<MemoryStoreMap> map_ = memory_store_map();
  const TransportRow row_;
  std::shared_ptr<Context> context_;
  std::unique_ptr<PlayedRank> peer_;
};

TEST_P(HostilePeerTest, OperationsEndInAnErrorByTheirDeadline) {
  Communicator comm = context_->communicator({.name = "world"});
  const Work work = comm.barrier({.timeout = milliseconds(400)});
  ASSERT_TRUE(peer_->wait([&] { return peer_->communicator != 0; }));
  MessageHeader header = GetParam().header;
  header.communicator = peer_->communicator;
  const auto start = Clock::now();
  peer_->call({{{.kind = MessageKind::kHello}, peer_->hello()}, {header, GetParam().payload}});
  try {
    work.wait();
    ADD_FAILURE() << "a barrier with nobody";
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ErrorCode::kBug) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("barrier"));
    EXPECT_GE(error.failed_rank(), -1) << error.what();
    EXPECT_LT(error.failed_rank(), 2) << error.what();
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(comm.error());
}

INSTANTIATE_TEST_SUITE_P(Messages, HostilePeerTest, testing::ValuesIn(strange_messages()),
                         [](const auto& tested) { return tested.param.name; });

class HostileHelloTest : public HostilePeerTest {};

// Nobody but a rank of this run gets in, and those who try are no reason to fail.
TEST_P(HostileHelloTest, IsRefusedAndForgotten) {
  peer_->call(
      {{GetParam().header, GetParam().payload.empty() ? peer_->hello(0, 0, 0) : GetParam().payload},
       {{.kind = MessageKind::kFailure, .communicator = 1}, {}}});
  ASSERT_TRUE(peer_->wait([&] { return peer_->ends >= 1; }));
  Communicator comm = context_->communicator({.name = "world"});
  try {
    comm.barrier({.timeout = milliseconds(300)}).wait();
    ADD_FAILURE() << "a barrier with nobody";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Hellos, HostileHelloTest,
    testing::Values(
        Strange{"from_the_receiver_itself", {.kind = MessageKind::kHello}, {}},
        Strange{"of_another_run", {.kind = MessageKind::kHello}, std::vector<std::byte>(25)},
        Strange{"truncated", {.kind = MessageKind::kHello}, std::vector<std::byte>(24)},
        Strange{"too_long", {.kind = MessageKind::kHello}, std::vector<std::byte>(100'000)},
        Strange{"of_another_kind", {.kind = MessageKind::kHeartbeat}, std::vector<std::byte>(25)}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace treadle
