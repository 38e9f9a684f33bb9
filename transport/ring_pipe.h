// A Pipe made of two rings in shared memory and the peer's doorbell; memory and shm are made of it.
//
// It watches the rings as a Poller of the engine and rings the peer's doorbell if the peer sleeps.
// A lane carries data from the end that dialled; back come only answers, so that ring is small.
#pragma once
#include <memory>
#include <optional>

#include "transport/pipe.h"
#include "transport/ring.h"

namespace treadle {

inline constexpr std::size_t kForwardRingBytes = 1 << 20;
inline constexpr std::size_t kBackRingBytes = 64 << 10;
// The memory that the two ends share: the forward ring, then the one back. Zero at first.
inline constexpr std::size_t kRingPairBytes =
    ring_bytes(kForwardRingBytes) + ring_bytes(kBackRingBytes);

enum class PipeEnd { kDialled, kAccepted };

class RingPipe : public Pipe, private Engine::Poller {
 public:
  explicit RingPipe(Engine& engine) : engine_(engine) {}
  // The peer reads what was written, then sees the end.
  ~RingPipe() override;

  void start_on_loop(Events& events) override;
  // A write to a peer that has gone moves nothing: reading reports the loss, after what the peer
  // wrote before.
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override;
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override;
  std::shared_ptr<Doorbell> peer_doorbell() const override { return peer_; }

  // What the destructor tells the peer, for an end that never became a pipe.
  static void close_end(SharedSegment& memory, PipeEnd end, const Doorbell& peer);

 protected:
  // The pipe works from now on. `memory` has kRingPairBytes and is shared with the other end.
  void join_on_loop(std::shared_ptr<SharedSegment> memory, PipeEnd end,
                    std::shared_ptr<Doorbell> peer);
  // The peer is known to be gone: once its last bytes are read, reading throws `error`.
  void end_on_loop(const Error& error);
  bool joined() const { return out_.has_value(); }
  Events* events() const { return events_; }
  Engine& engine() const { return engine_; }

 private:
  bool poll_on_loop() override;
  void announce_sleep_on_loop(bool asleep) override;
  bool peer_is_gone() const { return end_.has_value() || in_->writer_closed(); }

  Engine& engine_;
  Events* events_ = nullptr;
  std::shared_ptr<SharedSegment> memory_;
  std::optional<RingWriter> out_;
  std::optional<RingReader> in_;
  std::shared_ptr<Doorbell> peer_;
  std::optional<Error> end_;
  bool full_ = false;      // the last write found no room
  bool finished_ = false;  // reading or looking has thrown: nothing more will come
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace treadle
