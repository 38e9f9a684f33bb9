#include "transport/memory/memory.h"

#include <array>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <new>

#include "transport/failed_pipe.h"
#include "transport/ring_pipe.h"
#include "transport/stream_connection.h"

namespace treadle {
namespace {

class HeapSegment final : public SharedSegment {
 public:
  explicit HeapSegment(std::size_t bytes)
      // Zeroed by calloc, which leaves untouched pages alone.
      : memory_(std::calloc(bytes + kLineBytes, 1)), bytes_(bytes) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }
  ~HeapSegment() override { std::free(memory_); }
  HeapSegment(const HeapSegment&) = delete;
  HeapSegment& operator=(const HeapSegment&) = delete;
  Bytes bytes() override {
    void* at = memory_;
    std::size_t room = bytes_ + kLineBytes;
    return {static_cast<std::byte*>(std::align(kLineBytes, bytes_, at, room)), bytes_};
  }

 private:
  static constexpr std::size_t kLineBytes = 64;
  void* memory_;
  std::size_t bytes_;
};

std::size_t index_of(PipeEnd end) { return end == PipeEnd::kDialled ? 0 : 1; }
PipeEnd other(PipeEnd end) {
  return end == PipeEnd::kDialled ? PipeEnd::kAccepted : PipeEnd::kDialled;
}

// What the two ends of one connection share.
struct Wire {
  std::shared_ptr<SharedSegment> rings = std::make_shared<HeapSegment>(kRingPairBytes);
  std::array<std::shared_ptr<Doorbell>, 2> bells;  // by whom they wake; set before it is shared
  std::mutex mutex;                                // guards segments
  std::array<std::deque<std::shared_ptr<SharedSegment>>, 2> segments;  // by receiving end
};

class MemoryPipe final : public RingPipe {
 public:
  MemoryPipe(Engine& engine, std::shared_ptr<Wire> wire, PipeEnd end, std::string peer)
      : RingPipe(engine), wire_(std::move(wire)), end_(end), peer_(std::move(peer)) {
    join_on_loop(wire_->rings, end_, wire_->bells[index_of(other(end_))]);
  }

  bool can_share() const override { return true; }
  void give_segment_on_loop(std::shared_ptr<SharedSegment> segment) override {
    const std::lock_guard lock(wire_->mutex);
    wire_->segments[index_of(other(end_))].push_back(std::move(segment));
  }
  std::shared_ptr<SharedSegment> take_segment_on_loop() override {
    const std::lock_guard lock(wire_->mutex);
    auto& mine = wire_->segments[index_of(end_)];
    if (mine.empty()) return nullptr;
    auto segment = std::move(mine.front());
    mine.pop_front();
    return segment;
  }
  std::string peer_text() const override { return "memory " + peer_; }

 private:
  std::shared_ptr<Wire> wire_;
  const PipeEnd end_;
  const std::string peer_;
};

// A wire on its way to the listener. If it is not accepted, the caller sees the end.
class Call {
 public:
  explicit Call(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  ~Call() {
    if (wire_) RingPipe::close_end(*wire_->rings, PipeEnd::kAccepted, *wire_->bells[0]);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  std::shared_ptr<Wire> accept() { return std::move(wire_); }

 private:
  std::shared_ptr<Wire> wire_;
};

}  // namespace

// Who listens where. Any thread.
class MemoryHub : public std::enable_shared_from_this<MemoryHub> {
 public:
  using Accept = std::function<void(std::shared_ptr<Wire>)>;
  struct Place {
    Engine* engine;
    std::shared_ptr<Accept> accept_on_loop;
  };

  std::string add(Place place) {
    const std::lock_guard lock(mutex_);
    const std::string address = fmt::format("place {}", next_++);
    places_.emplace(address, std::move(place));
    return address;
  }
  void remove(const std::string& address) {
    const std::lock_guard lock(mutex_);
    places_.erase(address);
  }
  // Posts the acceptance to the listener's engine; false if nobody listens there. Posts under the
  // lock: a listener leaves the hub before its engine ends.
  bool call(const std::string& address, const std::shared_ptr<Wire>& wire) {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(address);
    if (found == places_.end()) return false;
    Engine& engine = *found->second.engine;
    wire->bells[index_of(PipeEnd::kAccepted)] = engine.doorbell();
    engine.post([hub = shared_from_this(), address, call = std::make_shared<Call>(wire)] {
      // Listeners leave on this loop, so that one which is found stays for this call.
      if (const auto accept = hub->find(address)) (*accept)(call->accept());
    });
    return true;
  }

 private:
  std::shared_ptr<Accept> find(const std::string& address) {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(address);
    return found == places_.end() ? nullptr : found->second.accept_on_loop;
  }

  std::mutex mutex_;
  std::map<std::string, Place> places_;
  int next_ = 0;
};

namespace {

class MemoryListener final : public Listener {
 public:
  MemoryListener(std::shared_ptr<MemoryHub> hub, const TransportEnvironment& env,
                 const AcceptHandler& on_accept)
      : hub_(std::move(hub)) {
    const auto accept = [env, on_accept](std::shared_ptr<Wire> wire) {
      auto pipe =
          std::make_unique<MemoryPipe>(env.engine, std::move(wire), PipeEnd::kAccepted, "caller");
      auto connection =
          std::make_unique<StreamConnection>(std::move(pipe), env.engine, env.config, nullptr);
      StreamConnection& raw = *connection;
      raw.attach(on_accept(std::move(connection)));
    };
    address_ = hub_->add({&env.engine, std::make_shared<MemoryHub::Accept>(accept)});
  }
  ~MemoryListener() override { hub_->remove(address_); }
  std::string address() const override { return address_; }

 private:
  const std::shared_ptr<MemoryHub> hub_;
  std::string address_;
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(const TransportEnvironment& environment, std::shared_ptr<MemoryHub> hub)
      : environment_(environment), hub_(std::move(hub)) {}

  std::string_view name() const override { return "memory"; }
  std::string unusable_because() const override { return {}; }
  std::unique_ptr<Listener> listen_on_loop(AcceptHandler on_accept) override {
    return std::make_unique<MemoryListener>(hub_, environment_, on_accept);
  }
  std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane, bool,
                                              ConnectionEvents& events) override {
    const std::string where(address);
    auto wire = std::make_shared<Wire>();
    wire->bells[index_of(PipeEnd::kDialled)] = environment_.engine.doorbell();
    std::unique_ptr<Pipe> pipe;
    if (hub_->call(where, wire)) {
      pipe = std::make_unique<MemoryPipe>(environment_.engine, std::move(wire), PipeEnd::kDialled,
                                          where);
    } else {
      const Error error(ErrorCode::kPeerLost, "memory: connecting to {}: nobody listens there",
                        where);
      pipe = std::make_unique<FailedPipe>(environment_.engine, error, "memory " + where);
    }
    return std::make_unique<StreamConnection>(std::move(pipe), environment_.engine,
                                              environment_.config, &events);
  }
  std::shared_ptr<SharedSegment> make_segment(std::size_t bytes) override {
    return std::make_shared<HeapSegment>(bytes);
  }

 private:
  const TransportEnvironment environment_;
  const std::shared_ptr<MemoryHub> hub_;
};

}  // namespace

std::shared_ptr<MemoryHub> memory_hub() { return std::make_shared<MemoryHub>(); }

std::unique_ptr<Transport> memory_transport(const TransportEnvironment& environment,
                                            std::shared_ptr<MemoryHub> hub) {
  return std::make_unique<MemoryTransport>(environment, std::move(hub));
}

TransportRow memory_row(std::shared_ptr<MemoryHub> hub) {
  return {"memory", "connections inside one process, for tests", true,
          [hub](const TransportEnvironment& env) { return memory_transport(env, hub); }};
}

}  // namespace treadle
