// A StreamConnection over a pipe that the test plays: reads and writes as short as it likes, any
// bytes at all, and an end at any moment.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "core/error.h"
#include "transport/stream_connection.h"

namespace treadle {

using Buffer = std::vector<std::byte>;

inline Buffer pattern(std::size_t bytes, std::uint32_t seed) {
  std::mt19937 random(seed);
  Buffer data(bytes);
  for (auto& byte : data) byte = static_cast<std::byte>(random());
  return data;
}

// The other end is the test: it takes from `written` and puts into `incoming`.
class PlayedPipe final : public Pipe {
 public:
  struct Play {
    Buffer incoming;
    std::size_t read = 0;
    std::size_t read_limit = SIZE_MAX;   // per call
    std::size_t write_limit = SIZE_MAX;  // per call
    std::size_t room = SIZE_MAX;         // altogether
    Buffer written;
    bool ended = false;  // by the peer
    Events* events = nullptr;
  };
  explicit PlayedPipe(Play& play) : play_(play) {}

  void start_on_loop(Events& events) override { play_.events = &events; }
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override {
    if (play_.ended) throw Error(ErrorCode::kPeerLost, "played: broken");
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      const auto bytes = std::min({piece.iov_len, play_.write_limit - done, play_.room});
      play_.written.insert(play_.written.end(), from, from + bytes);
      play_.room -= bytes;
      done += bytes;
    }
    return done;
  }
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override {
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      const auto bytes =
          std::min({piece.iov_len, play_.read_limit - done, play_.incoming.size() - play_.read});
      if (bytes > 0) std::memcpy(piece.iov_base, play_.incoming.data() + play_.read, bytes);
      play_.read += bytes;
      done += bytes;
    }
    if (done == 0 && play_.ended) throw Error(ErrorCode::kPeerLost, "played: end of stream");
    return done;
  }
  std::string peer_text() const override { return "played"; }

 private:
  Play& play_;
};

class StreamConnectionTest : public testing::Test, public ConnectionEvents {
 protected:
  StreamConnectionTest() { config_.segment_bytes = 4096; }
  ~StreamConnectionTest() override {
    engine_.run_on_loop([this] { connection_.reset(); });
  }

  void connect(std::size_t chunk = SIZE_MAX) {
    play_ = {};
    play_.read_limit = play_.write_limit = chunk;
    closed_.reset();
    got_.clear();
    engine_.run_on_loop([&] {
      connection_ = std::make_unique<StreamConnection>(std::make_unique<PlayedPipe>(play_), engine_,
                                                       config_, this);
    });
  }
  void post(std::uint64_t communicator, std::uint64_t sequence, const Buffer& payload,
            int priority = kNormal) {
    connection_->post_on_loop(
        {.header = {.kind = MessageKind::kData, .communicator = communicator, .sequence = sequence},
         .payload = payload,
         .priority = priority,
         .done = [this, sequence] { done_.push_back(sequence); },
         .segment = nullptr});
  }
  // Until nothing moves any more.
  void write_all() {
    engine_.run_on_loop([this] {
      while (connection_ && play_.events->on_writable_on_loop()) {
      }
    });
    engine_.run_on_loop([] {});  // what was posted meanwhile
  }
  void read_all() {
    engine_.run_on_loop([this] {
      while (connection_ && play_.events->on_readable_on_loop()) {
      }
    });
  }
  // What this connection writes for one message.
  Buffer bytes_of_message(std::uint64_t sequence, const Buffer& payload) {
    connect();
    engine_.run_on_loop([&] { post(1, sequence, payload); });
    write_all();
    return play_.written;
  }

  std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override {
    if (on_header) on_header(header);
    auto& message = got_[header.sequence];
    message.resize(header.total_bytes);
    return Bytes(message).subspan(header.offset_bytes, header.size_bytes);
  }
  void on_payload_on_loop(const MessageHeader& header, std::shared_ptr<SharedSegment>) override {
    ends_.push_back(header);
    if (on_payload) on_payload(header);
  }
  void on_closed_on_loop(const Error& error) override {
    EXPECT_FALSE(closed_) << "closed twice";
    closed_ = error;
    connection_.reset();
  }

  Config config_;
  Engine engine_{{.slice = milliseconds(1000), .start_thread = false}};
  PlayedPipe::Play play_;
  std::unique_ptr<StreamConnection> connection_;
  std::map<std::uint64_t, Buffer> got_;  // by sequence
  std::vector<MessageHeader> ends_;
  std::vector<std::uint64_t> done_;
  std::optional<Error> closed_;
  std::function<void(const MessageHeader&)> on_header;
  std::function<void(const MessageHeader&)> on_payload;
};

}  // namespace treadle
