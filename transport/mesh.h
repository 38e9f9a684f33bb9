// One rank's links to the others: addresses, dialling on demand, hello, heartbeats, and handing
// every message to the communicator it names.
//
// A link has two lanes, control and data, so that hellos, grants, heartbeats and failures never
// queue behind data. Each rank dials what it sends on, so a pair that talks both ways has a
// connection per lane and direction and nobody has to decide who calls whom; a rank that is called
// calls back on the control lane, which proves that both directions work and lets each hear the
// other's heartbeat.
//
// A rank is lost when a connection to it breaks, when it cannot be reached, or after silence of 2 x
// heartbeat; the first reason stays. Everything is loop only unless it says otherwise.
// docs/design/005-failures.md.
#pragma once
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/config.h"
#include "core/error.h"
#include "core/log.h"
#include "transport/bootstrap.h"
#include "transport/engine.h"
#include "transport/transport.h"

namespace treadle {

class IncomingLink;
class OutgoingLink;

class Mesh {
 public:
  // What a communicator is told. `peer` is a rank of the mesh.
  class Sink {
   public:
    virtual ~Sink() = default;
    // As ConnectionEvents::on_header_on_loop.
    virtual std::optional<Bytes> on_header_on_loop(int peer, const MessageHeader& header) = 0;
    virtual void on_payload_on_loop(int peer, const MessageHeader& header,
                                    std::shared_ptr<SharedSegment> segment) = 0;
    virtual void on_peer_lost_on_loop(int peer, const Error& error) = 0;
    virtual void on_ready_on_loop() = 0;           // the roster is here
    virtual void on_linked_on_loop(int peer) = 0;  // a lane to this peer now stands
    // Mesh::fail_on_loop was called. `alone`: the others' addresses will never be known.
    virtual void on_unusable_on_loop(const Error& error, bool alone) = 0;
  };

  struct Options {
    int rank = 0;
    int ranks = 1;
    std::shared_ptr<Store> store;
    std::vector<TransportRow> transports;
  };

  Mesh(Engine& engine, const Config& config, Log log, Options options);
  ~Mesh();  // not on the loop; says goodbye and closes everything
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  void add_sink_on_loop(std::uint64_t communicator, Sink& sink);
  void remove_sink_on_loop(std::uint64_t communicator);

  // Ends every communicator, here and in future, because of what belongs to none of them. The
  // first error stays.
  void fail_on_loop(const Error& error) { fail_on_loop(error, false); }

  bool ready_on_loop() const { return roster_.has_value(); }
  std::uint64_t run_id_on_loop() const { return roster_ ? roster_->run_id : 0; }
  bool same_host_on_loop(int peer) const;
  // The same for two others, as every rank derives it from the roster.
  bool share_host_on_loop(int one, int other) const;
  // The error of a lost peer, if it is lost.
  const std::optional<Error>& lost_on_loop(int peer) const;

  // Queues a message; dials if needed. Messages to a lost peer are dropped.
  void post_on_loop(int peer, Lane lane, Outgoing message);
  // Opens the control lane (both ways) without a message.
  void want_on_loop(int peer);
  // Whether a lane to or from this peer has been opened.
  bool in_touch_on_loop(int peer) const;
  // Forgets queued data and half-received payloads of the communicator on all links; control
  // messages still go out.
  void cancel_on_loop(std::uint64_t communicator);
  bool flushed_on_loop() const;
  std::shared_ptr<Doorbell> doorbell_on_loop(int peer) const;
  std::shared_ptr<SharedSegment> make_segment_on_loop(std::size_t bytes);

  // Ranks whose addresses are not known yet, for error texts. Any thread.
  std::vector<int> missing() const { return bootstrap_->missing(); }
  std::string link_text_on_loop(int peer) const;  // "shm", "tcp 10.0.0.2:4711", "not connected"

 private:
  friend class IncomingLink;
  friend class OutgoingLink;
  struct Peer;
  struct Unclaimed {
    int peer;
    MessageHeader header;
    std::vector<std::byte> payload;
    std::shared_ptr<SharedSegment> segment;
  };

  // mesh.cc: roster, dispatch, liveness.
  void fail_on_loop(const Error& error, bool alone);
  Peer& peer_at(int peer) const;
  void start_bootstrap();
  void install_on_loop(Roster roster);
  void check_settings(const Roster& roster) const;
  PeerInfo my_info_on_loop();
  void tick_on_loop();
  void check_peer_on_loop(int rank, Deadline now);
  void lose_on_loop(int rank, Error error);
  void bury_on_loop(std::unique_ptr<ConnectionEvents> link);
  void bury_links_on_loop(Peer& peer);
  void post_alive(std::function<void()> function);
  Sink* sink_of(std::uint64_t communicator) const;
  void stash_on_loop(Unclaimed message);
  static void deliver(Sink& sink, const Unclaimed& message);
  void close_on_loop();

  // mesh_links.cc: dialling, accepting, hello.
  void dial_on_loop(int rank, Lane lane);
  void redial_on_loop(int rank, Lane lane, const Error& reason);
  void out_ready_on_loop(int rank, Lane lane);
  void lose_unless_departed_on_loop(int rank, const Error& error);
  void out_closed_on_loop(int rank, Lane lane, const Error& error);
  void in_ready_on_loop(int rank, Lane lane, IncomingLink* link);
  void in_closed_on_loop(IncomingLink* link, const Error& error);
  std::vector<std::byte> hello_for(int rank, Lane lane) const;
  ConnectionEvents& accept_on_loop(std::unique_ptr<Connection> connection);
  void drop_strangers_on_loop(Deadline now);

  Engine& engine_;
  const Config& config_;
  const Log log_;
  const int rank_;
  const int ranks_;
  std::shared_ptr<Store> store_;
  std::vector<TransportRow> rows_;
  std::vector<std::unique_ptr<Transport>> transports_;  // as rows_
  std::vector<std::unique_ptr<Listener>> listeners_;    // as rows_
  PeerInfo mine_;
  std::unique_ptr<Bootstrap> bootstrap_;
  std::thread bootstrap_thread_;

  std::optional<Roster> roster_;
  std::optional<Error> unusable_;
  bool alone_ = false;  // there will be no roster
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<std::unique_ptr<IncomingLink>> strangers_;  // accepted, no hello yet; oldest first
  std::vector<std::unique_ptr<ConnectionEvents>> graveyard_;  // may still be on the call stack
  std::map<std::uint64_t, Sink*> sinks_;
  std::set<std::uint64_t> ended_;  // communicators that have been here
  std::map<std::uint64_t, std::deque<Unclaimed>> unclaimed_;
  std::size_t unclaimed_bytes_ = 0;
  Deadline last_tick_{};
  bool closing_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace treadle
