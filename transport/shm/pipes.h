// The two kinds of shm pipes. Private to the shm transport.
//
// Both begin with one byte in each direction, a ShmPreamble, which carries descriptors: the
// sender's doorbell and, from the caller of a data lane, the memfd of the rings. Until the answer
// is here nothing is written.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/ring_pipe.h"
#include "transport/shm/segment.h"
#include "transport/shm/unix_socket.h"

namespace treadle {

enum class ShmPreamble : char { kControl = 'c', kData = 'd', kAnswer = 'a' };

void send_preamble(UnixSocket& socket, ShmPreamble kind, const Engine& engine,
                   const MemfdSegment* rings = nullptr);
// The kind if the preamble is there, with its descriptors left in the socket; throws kCorrupt.
std::optional<ShmPreamble> read_preamble(UnixSocket& socket);
std::shared_ptr<Doorbell> take_doorbell(UnixSocket& socket);

// A socket and its place in the engine's epoll, which ends with it or earlier.
class WatchedSocket {
 public:
  WatchedSocket(Engine& engine, UnixSocket socket) : engine_(engine), socket_(std::move(socket)) {}
  ~WatchedSocket() { unwatch(); }
  WatchedSocket(const WatchedSocket&) = delete;
  WatchedSocket& operator=(const WatchedSocket&) = delete;

  UnixSocket& socket() { return socket_; }
  void watch(Engine::FdHandler handler);
  void want_writable(bool wanted);
  // To be called at the end of the stream: epoll would report it forever.
  void unwatch();

 private:
  Engine& engine_;
  UnixSocket socket_;
  bool watched_ = false;
};

// Messages over the socket itself.
class ShmControlPipe final : public Pipe {
 public:
  // `peer_doorbell` is known if this end accepted.
  ShmControlPipe(Engine& engine, UnixSocket socket, std::string peer,
                 std::shared_ptr<SegmentTable> segments,
                 std::shared_ptr<Doorbell> peer_doorbell = nullptr);
  ~ShmControlPipe() override { *alive_ = false; }

  void start_on_loop(Events& events) override;
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override;
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override;
  bool can_share() const override { return true; }
  void give_segment_on_loop(std::shared_ptr<SharedSegment> segment) override;
  std::shared_ptr<SharedSegment> take_segment_on_loop() override;
  std::shared_ptr<Doorbell> peer_doorbell() const override { return bell_; }
  std::string peer_text() const override { return "shm " + peer_; }

 private:
  void on_ready(std::uint32_t events);
  void on_answer();

  WatchedSocket socket_;
  const std::string peer_;
  const std::shared_ptr<SegmentTable> segments_;
  std::shared_ptr<Doorbell> bell_;
  Events* events_ = nullptr;
  std::shared_ptr<MemfdSegment> to_give_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Messages over rings; the socket tells the end.
class ShmDataPipe final : public RingPipe {
 public:
  // This end dialled, and made the rings.
  ShmDataPipe(Engine& engine, UnixSocket socket, std::string peer,
              std::shared_ptr<MemfdSegment> rings);
  // This end accepted.
  ShmDataPipe(Engine& engine, UnixSocket socket, std::string peer,
              std::shared_ptr<MemfdSegment> rings, std::shared_ptr<Doorbell> peer_doorbell);

  void start_on_loop(Events& events) override;
  std::string peer_text() const override { return "shm " + peer_; }

 private:
  void on_ready();
  void read_answer();
  void read_end();

  WatchedSocket socket_;
  const std::string peer_;
  std::shared_ptr<MemfdSegment> rings_;  // until the answer is here
};

}  // namespace treadle
