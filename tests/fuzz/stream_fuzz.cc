// Any bytes on a connection become messages whose segments lie where they say, or close it with an
// Error. The first byte chooses how much a read gives.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "transport/stream_connection.h"

namespace {

using namespace treadle;

class FuzzPipe final : public Pipe {
 public:
  FuzzPipe(ConstBytes bytes, std::size_t chunk) : bytes_(bytes), chunk_(chunk) {}
  void start_on_loop(Events& events) override { events_ = &events; }
  std::size_t try_write_on_loop(std::span<const iovec>) override { return 0; }
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override {
    if (bytes_.empty()) throw Error(ErrorCode::kPeerLost, "the end");
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      const auto bytes = std::min({piece.iov_len, bytes_.size(), chunk_ - done});
      if (bytes > 0) std::memcpy(piece.iov_base, bytes_.data(), bytes);
      bytes_ = bytes_.subspan(bytes);
      done += bytes;
    }
    return done;
  }
  std::string peer_text() const override { return "fuzz"; }
  Events* events_ = nullptr;

 private:
  ConstBytes bytes_;
  std::size_t chunk_;
};

class Owner final : public ConnectionEvents {
 public:
  std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override {
    if (header.size_bytes > MessageHeader::kMaxPayloadBytes) std::abort();
    if (header.offset_bytes + header.size_bytes >
        std::max<std::uint64_t>(header.total_bytes, header.size_bytes)) {
      std::abort();
    }
    if (header.sequence % 2 == 1) return std::nullopt;
    place_.resize(header.size_bytes);
    return Bytes(place_);
  }
  void on_payload_on_loop(const MessageHeader&, std::shared_ptr<SharedSegment>) override {}
  void on_closed_on_loop(const Error&) override { closed = true; }
  bool closed = false;

 private:
  std::vector<std::byte> place_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  const Config config;
  Engine engine({.slice = milliseconds(1000), .start_thread = false});
  engine.run_on_loop([&] {
    auto pipe = std::make_unique<FuzzPipe>(bytes.subspan(1), data[0] + std::size_t{1});
    FuzzPipe& raw = *pipe;
    Owner owner;
    StreamConnection connection(std::move(pipe), engine, config, &owner);
    while (!owner.closed) raw.events_->on_readable_on_loop();
  });
  return 0;
}
