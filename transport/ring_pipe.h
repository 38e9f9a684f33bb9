// A Pipe made of two rings in shared memory and the peer's doorbell. Used by memory and shm.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/pipe.h"
#include "transport/ring.h"

namespace treadle {

class RingPipe : public Pipe, private Engine::Poller {
 public:
  // `outgoing` and `incoming` lie in memory that the subclass owns.
  explicit RingPipe(Engine& engine) : engine_(engine) {}
  ~RingPipe() override;

  void start_on_loop(Events& events) override;
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override;
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override;
  std::shared_ptr<Doorbell> peer_doorbell() const override { return bell_; }

 protected:
  void join_on_loop(Bytes outgoing, Bytes incoming, std::shared_ptr<Doorbell> peer);
  // Whether the peer is gone; try_read_on_loop then throws once the ring is empty.
  virtual bool looks_ended_on_loop() = 0;
  bool joined() const { return out_.has_value(); }
  Events* events() const { return events_; }
  Engine& engine_;

 private:
  bool poll_on_loop() override;
  void announce_sleep_on_loop(bool asleep) override;

  std::optional<Ring> out_;
  std::optional<Ring> in_;
  std::shared_ptr<Doorbell> bell_;
  Events* events_ = nullptr;
  bool full_ = false;
};

}  // namespace treadle
