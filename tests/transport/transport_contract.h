// What every transport promises (transport/transport.h), run over each lane of each transport:
//
//   INSTANTIATE_TEST_SUITE_P(Tcp, TransportContract,
//                            testing::ValuesIn(on_both_lanes("tcp", tcp_row)), case_name);
//
// Two endpoints in one process, each with an engine of its own that has a thread. Slices are longer
// than every wait below, so that a lost wake-up fails a test instead of slowing it down.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/error.h"
#include "transport/engine.h"
#include "transport/transport.h"

namespace treadle {

struct TransportCase {
  std::string name;
  Lane lane;
  std::function<TransportRow()> row;  // both endpoints of a test are made from one row
  // What an error about this address must contain.
  std::function<std::string(const std::string& address)> shown;
};

inline std::string case_name(const testing::TestParamInfo<TransportCase>& given) {
  return given.param.name + (given.param.lane == Lane::kControl ? "_control" : "_data");
}

inline std::vector<TransportCase> on_both_lanes(
    const std::string& name, const std::function<TransportRow()>& row,
    const std::function<std::string(const std::string&)>& shown = [](const std::string& address) {
      return address;
    }) {
  return {{name, Lane::kControl, row, shown}, {name, Lane::kData, row, shown}};
}

inline constexpr milliseconds kSoon{20'000};
inline constexpr milliseconds kSlice{60'000};

// One end of a connection and what happened there.
class ContractEnd final : public ConnectionEvents {
 public:
  struct Message {
    MessageHeader header;  // of the last segment
    std::vector<std::byte> payload;
    std::size_t got_bytes = 0;
    std::shared_ptr<SharedSegment> segment;
    bool complete() const { return got_bytes == header.total_bytes; }
  };
  using Name = std::pair<std::uint64_t, std::uint64_t>;  // communicator, sequence

  explicit ContractEnd(Engine& engine) : engine_(engine) {}

  std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(closed_) << "a header after the end";
    if (on_header) on_header(header);  // may throw
    if (dropped.contains(header.communicator)) return std::nullopt;
    Message& message = messages_[{header.communicator, header.sequence}];
    message.payload.resize(header.total_bytes);
    return Bytes(message.payload).subspan(header.offset_bytes, header.size_bytes);
  }
  void on_payload_on_loop(const MessageHeader& header,
                          std::shared_ptr<SharedSegment> segment) override {
    {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(closed_) << "a payload after the end";
      Message& message = messages_[{header.communicator, header.sequence}];
      message.header = header;
      message.got_bytes += header.size_bytes;
      if (segment) message.segment = std::move(segment);
      if (message.complete()) order_.push_back({header.communicator, header.sequence});
    }
    engine_.notify_waiters_on_loop();
  }
  void on_closed_on_loop(const Error& error) override {
    {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(closed_) << "closed twice";
      closed_ = error;
    }
    connection.reset();
    engine_.notify_waiters_on_loop();
  }

  std::size_t complete_count() const {
    const std::lock_guard lock(mutex_);
    return order_.size();
  }
  std::vector<Name> order() const {
    const std::lock_guard lock(mutex_);
    return order_;
  }
  Message message(std::uint64_t communicator, std::uint64_t sequence) const {
    const std::lock_guard lock(mutex_);
    const auto found = messages_.find({communicator, sequence});
    return found == messages_.end() ? Message{} : found->second;
  }
  std::size_t got_bytes(std::uint64_t communicator, std::uint64_t sequence) const {
    const std::lock_guard lock(mutex_);
    const auto found = messages_.find({communicator, sequence});
    return found == messages_.end() ? 0 : found->second.got_bytes;
  }
  std::optional<Error> closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

  // Loop only.
  std::unique_ptr<Connection> connection;
  std::function<void(const MessageHeader&)> on_header;
  std::set<std::uint64_t> dropped;  // communicators

 private:
  Engine& engine_;
  mutable std::mutex mutex_;  // guards the rest
  std::map<Name, Message> messages_;
  std::vector<Name> order_;
  std::optional<Error> closed_;
};

// One process, as it were.
class ContractEndpoint {
 public:
  explicit ContractEndpoint(const TransportRow& row)
      : engine({.slice = kSlice, .start_thread = true}) {
    engine.run_on_loop([&] {
      transport = row.make({engine, config, Log(LogLevel::kError, 0)});
      listener =
          transport->listen_on_loop([this](std::unique_ptr<Connection> c) -> ConnectionEvents& {
            auto end = std::make_unique<ContractEnd>(engine);
            end->connection = std::move(c);
            ContractEnd& mine = *end;
            {
              const std::lock_guard lock(mutex_);
              accepted_.push_back(std::move(end));
            }
            engine.notify_waiters_on_loop();
            return mine;
          });
    });
  }
  ~ContractEndpoint() {
    engine.run_on_loop([&] {
      dialled_.clear();
      accepted_.clear();
      listener.reset();
      transport.reset();
    });
  }

  std::string address() {
    std::string text;
    engine.run_on_loop([&] { text = listener->address(); });
    return text;
  }
  ContractEnd& connect_on_loop(const std::string& address, Lane lane) {
    dialled_.push_back(std::make_unique<ContractEnd>(engine));
    dialled_.back()->connection = transport->connect_on_loop(address, lane, true, *dialled_.back());
    return *dialled_.back();
  }
  ContractEnd* accepted(std::size_t index) {
    const std::lock_guard lock(mutex_);
    return index < accepted_.size() ? accepted_[index].get() : nullptr;
  }
  bool wait(const std::function<bool()>& done) {
    return engine.wait_until(done, deadline_after(kSoon));
  }

  Config config;
  Engine engine;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Listener> listener;

 private:
  std::mutex mutex_;  // guards accepted_
  std::vector<std::unique_ptr<ContractEnd>> accepted_;
  std::vector<std::unique_ptr<ContractEnd>> dialled_;
};

class TransportContract : public testing::TestWithParam<TransportCase> {
 protected:
  // Lives as long as the test, as payloads must that are still being sent.
  std::vector<std::byte>& pattern(std::size_t bytes, std::uint32_t seed) {
    std::mt19937 random(seed);
    auto& data = patterns_.emplace_back(bytes);
    for (auto& byte : data) byte = static_cast<std::byte>(random());
    return data;
  }

  // Dials; the other end is there once a message has arrived or accepted() has waited.
  ContractEnd& dial() {
    ContractEnd* end = nullptr;
    const auto address = there_.address();
    here_.engine.run_on_loop([&] { end = &here_.connect_on_loop(address, GetParam().lane); });
    return *end;
  }
  ContractEnd& accepted(std::size_t index = 0) {
    if (!there_.wait([&] { return there_.accepted(index) != nullptr; })) {
      throw std::runtime_error("nobody was accepted");
    }
    return *there_.accepted(index);
  }

  void post_on_loop(ContractEnd& end, std::uint64_t communicator, std::uint64_t sequence,
                    ConstBytes payload, int priority = kNormal) {
    end.connection->post_on_loop(
        {.header = {.kind = MessageKind::kData, .communicator = communicator, .sequence = sequence},
         .payload = payload,
         .priority = priority,
         .done = [this] { ++done_; },
         .segment = nullptr});
  }
  void post(ContractEndpoint& at, ContractEnd& end, std::uint64_t communicator,
            std::uint64_t sequence, ConstBytes payload, int priority = kNormal) {
    at.engine.run_on_loop([&] { post_on_loop(end, communicator, sequence, payload, priority); });
  }
  // Runs `body` on the loop of `here_` while that of `there_` stands still.
  void while_there_is_busy(const std::function<void()>& body) {
    there_.engine.run_on_loop([&] { here_.engine.run_on_loop(body); });
  }

  std::deque<std::vector<std::byte>> patterns_;
  const TransportRow row_ = GetParam().row();
  std::atomic<int> done_{0};
  ContractEndpoint there_{row_};
  ContractEndpoint here_{row_};
};

}  // namespace treadle
