// The two kinds of shm pipes. Private to the shm transport.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "transport/ring_pipe.h"
#include "transport/shm/segment.h"
#include "transport/shm/unix_socket.h"

namespace treadle {

// The first byte of a connection.
enum class ShmPreamble : char { kControl = 'c', kData = 'd', kAnswer = 'a' };

// Sends this engine's doorbell and, for a data lane, the memfd.
void send_preamble(UnixSocket& socket, ShmPreamble kind, const Engine& engine,
                   const MemfdSegment* rings);
// The kind if the preamble is there, with its descriptors still in the socket; throws kCorrupt.
std::optional<ShmPreamble> read_preamble(UnixSocket& socket);
std::shared_ptr<Doorbell> take_doorbell(UnixSocket& socket);

// Messages over the socket itself.
class ShmControlPipe final : public Pipe {
 public:
  // `bell` is the peer's, known if this end accepted.
  ShmControlPipe(Engine& engine, std::unique_ptr<UnixSocket> socket,
                 std::shared_ptr<Doorbell> bell);
  ~ShmControlPipe() override;

  void start_on_loop(Events& events) override;
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override;
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override;
  bool can_share() const override { return true; }
  void give_segment_on_loop(std::shared_ptr<SharedSegment> segment) override;
  std::shared_ptr<SharedSegment> take_segment_on_loop() override;
  std::shared_ptr<Doorbell> peer_doorbell() const override { return bell_; }
  std::string peer_text() const override { return "shm"; }

 private:
  void on_events(std::uint32_t events);

  Engine& engine_;
  std::unique_ptr<UnixSocket> socket_;
  std::shared_ptr<Doorbell> bell_;
  Events* events_ = nullptr;
  std::deque<std::shared_ptr<SharedSegment>> to_give_;
};

// Messages over rings; the socket tells the end.
class ShmDataPipe final : public RingPipe {
 public:
  // This end dialled: makes the rings.
  ShmDataPipe(Engine& engine, std::unique_ptr<UnixSocket> socket);
  // This end accepted.
  ShmDataPipe(Engine& engine, std::unique_ptr<UnixSocket> socket,
              std::shared_ptr<MemfdSegment> rings, std::shared_ptr<Doorbell> bell);
  ~ShmDataPipe() override;

  void start_on_loop(Events& events) override;
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override;
  std::string peer_text() const override { return "shm"; }

 private:
  bool looks_ended_on_loop() override { return ended_; }
  void on_socket();

  std::unique_ptr<UnixSocket> socket_;
  std::shared_ptr<MemfdSegment> rings_;
  bool ended_ = false;
};

}  // namespace treadle
