// What a byte-stream transport must supply; StreamConnection (stream_connection.h) makes messages
// of it.
//
// Loop only. A Pipe tells its Events when it may have become readable or writable; spurious calls
// are fine.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/error.h"
#include "transport/engine.h"
#include "transport/transport.h"

namespace treadle {

class Pipe {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    virtual bool on_readable_on_loop() = 0;  // true: something moved
    virtual bool on_writable_on_loop() = 0;
    virtual void on_broken_on_loop(
        const Error& error) = 0;  // asynchronous failure, e.g. of connecting
  };

  virtual ~Pipe() = default;
  virtual void start_on_loop(Events& events) = 0;  // once; events may be called from now on
  // Bytes written, 0 if it is full (Events::on_writable follows when it is not). Throws Error when
  // broken.
  virtual std::size_t try_write_on_loop(std::span<const iovec> pieces) = 0;
  // Bytes read, 0 if nothing is there. Throws Error(kPeerLost) at end of stream.
  virtual std::size_t try_read_on_loop(std::span<const iovec> pieces) = 0;

  // Passing segments; the default cannot.
  virtual bool can_share() const { return false; }
  // The segment arrives at the peer's take_segment_on_loop, in order, no later than the bytes of
  // the try_write_on_loop that follows.
  virtual void give_segment_on_loop(std::shared_ptr<SharedSegment> segment);
  virtual std::shared_ptr<SharedSegment> take_segment_on_loop() { return nullptr; }
  virtual std::shared_ptr<Doorbell> peer_doorbell() const { return nullptr; }
  virtual std::string peer_text() const = 0;
};

// Messages over a Pipe: cuts payloads into segments of config.segment_bytes, orders by priority,
// reads payloads straight into place (small ones through a 64 KiB buffer, so that a small message
// costs one call).
std::unique_ptr<Connection> stream_connection(std::unique_ptr<Pipe> pipe, Engine& engine,
                                              const Config& config, ConnectionEvents* events);

}  // namespace treadle
