// How bytes reach another rank: Transport makes Listeners and Connections; a Connection carries
// messages, each with a name (message.h).
//
// A connection promises no order beyond the names. post() never blocks: its queue is ordered by
// priority at segment granularity, and an urgent segment overtakes. Where a payload goes is decided
// when its header arrives. Everything here is loop only unless it says otherwise.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/config.h"
#include "core/error.h"
#include "core/log.h"
#include "transport/engine.h"
#include "transport/message.h"

namespace treadle {

// Memory that several processes map. In one process (memory transport) all ranks hold the same
// mapping.
class SharedSegment {
 public:
  virtual ~SharedSegment() = default;
  virtual Bytes bytes() = 0;
};

// Smaller is more urgent.
enum Priority : int { kUrgent = 0, kNormal = 100 };

struct Outgoing {
  // size_bytes and offset_bytes are set by the connection, segment by segment.
  MessageHeader header = {};
  ConstBytes payload = {};  // valid until done is called, or until cancel_on_loop has returned
  int priority = kNormal;
  // Called once, when the payload may be reused. Not called for cancelled messages nor after a
  // close.
  std::function<void()> done = {};
  std::shared_ptr<SharedSegment> segment = {};  // travels beside the message where can_share()
};

// What the reader of a connection is told. Payload bytes of one segment follow its header at once.
class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  // A segment's header arrived. Returns where its size_bytes of payload go (exactly that many
  // bytes, valid until on_payload_on_loop or cancel_on_loop), or nothing to drop them. A thrown
  // Error closes the connection with it. For size_bytes == 0 the answer is ignored.
  virtual std::optional<Bytes> on_header_on_loop(const MessageHeader& header) = 0;
  // The payload of that header is complete (or was dropped).
  virtual void on_payload_on_loop(const MessageHeader& header,
                                  std::shared_ptr<SharedSegment> segment) = 0;
  // The connection is gone; nothing is called afterwards. The first error of a connection stays its
  // error. The connection may be destroyed inside this call.
  virtual void on_closed_on_loop(const Error& error) = 0;
};

class Connection {
 public:
  virtual ~Connection() = default;  // closes without telling anybody
  virtual void post_on_loop(Outgoing message) = 0;
  // Forgets everything of this communicator: queued messages are dropped (of one partly written,
  // the rest is copied), the rest of a payload being received is discarded. Afterwards no buffer of
  // that communicator is touched.
  virtual void cancel_on_loop(std::uint64_t communicator) = 0;
  virtual bool flushed_on_loop() const = 0;  // every posted byte has left this process's queues
  virtual bool can_share() const = 0;
  // Wakes the peer's engine from any thread; null where the transport has none (tcp).
  virtual std::shared_ptr<Doorbell> peer_doorbell() const = 0;
  virtual std::string peer_text() const = 0;  // "tcp 10.0.0.2:41233", for errors
};

// What a connection is for. Hello, grants, heartbeats and failures never queue behind data.
enum class Lane : std::uint8_t { kControl = 0, kData = 1 };

// Called for every accepted connection: gets the connection, keeps it, and returns its events,
// which must outlive it.
using AcceptHandler = std::function<ConnectionEvents&(std::unique_ptr<Connection>)>;

class Listener {
 public:
  virtual ~Listener() = default;
  // Opaque, at most 4 KiB; published to the other ranks, read by connect_on_loop of this transport.
  virtual std::string address() const = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const = 0;
  // Empty if it can be used on this machine, else why not.
  virtual std::string unusable_because() const = 0;
  virtual std::unique_ptr<Listener> listen_on_loop(AcceptHandler on_accept) = 0;
  // Never blocks: messages posted before the connection stands are kept. A failure to connect is
  // reported to on_closed_on_loop (never from inside this call) with every address tried and its
  // reason; the caller decides whether to try again. `same_host`: the peer's host id equals ours.
  virtual std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane lane,
                                                      bool same_host, ConnectionEvents& events) = 0;
  // Memory that connections of this transport can pass, or null where they cannot.
  virtual std::shared_ptr<SharedSegment> make_segment(std::size_t bytes) = 0;
};

// What a transport is made from; outlives it.
struct TransportEnvironment {
  Engine& engine;
  const Config& config;
  Log log;
};

// A row of the table of transports (transports.cc), best first.
struct TransportRow {
  std::string_view name;
  std::string_view summary;
  bool same_host_only;
  std::function<std::unique_ptr<Transport>(const TransportEnvironment&)> make;
};
std::vector<TransportRow> standard_transports();

// Identifies this host for the purpose of sharing memory: hash of boot id, network namespace, user
// id and TREADLE_HOST.
std::uint64_t this_host_id(const Config& config);

}  // namespace treadle
