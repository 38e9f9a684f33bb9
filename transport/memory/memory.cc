#include "transport/memory/memory.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <mutex>
#include <new>

#include "transport/ring_pipe.h"
#include "transport/stream_connection.h"

namespace treadle {
namespace {

class HeapSegment final : public SharedSegment {
 public:
  explicit HeapSegment(std::size_t bytes)
      : bytes_(bytes), memory_(static_cast<std::byte*>(::operator new(bytes, kLine))) {
    std::fill_n(memory_, bytes, std::byte{0});
  }
  ~HeapSegment() override { ::operator delete(memory_, kLine); }
  HeapSegment(const HeapSegment&) = delete;
  HeapSegment& operator=(const HeapSegment&) = delete;
  Bytes bytes() override { return {memory_, bytes_}; }

 private:
  static constexpr std::align_val_t kLine{64};
  std::size_t bytes_;
  std::byte* memory_;
};

// What the two ends of one connection share.
struct Wire {
  HeapSegment rings{2 * Ring::kSharedBytes};
  std::mutex mutex;                                                    // guards the rest
  std::array<std::deque<std::shared_ptr<SharedSegment>>, 2> segments;  // by receiving end
  std::array<bool, 2> gone = {false, false};
  std::array<std::shared_ptr<Doorbell>, 2> bells;

  Bytes ring(int from) {
    return rings.bytes().subspan(static_cast<std::size_t>(from) * Ring::kSharedBytes,
                                 Ring::kSharedBytes);
  }
};

class MemoryPipe final : public RingPipe {
 public:
  MemoryPipe(Engine& engine, std::shared_ptr<Wire> wire, int end, std::string peer)
      : RingPipe(engine), wire_(std::move(wire)), end_(end), peer_(std::move(peer)) {
    join_on_loop(wire_->ring(end_), wire_->ring(1 - end_), wire_->bells[other()]);
  }
  ~MemoryPipe() override {
    {
      const std::lock_guard lock(wire_->mutex);
      wire_->gone[static_cast<std::size_t>(end_)] = true;
    }
    wire_->bells[other()]->ring();
  }

  std::size_t try_read_on_loop(std::span<const iovec> pieces) override {
    bool gone = false;
    {
      const std::lock_guard lock(wire_->mutex);
      gone = wire_->gone[other()];
    }
    const std::size_t got = RingPipe::try_read_on_loop(pieces);
    // Asked before reading, so nothing written before the end is missed.
    if (got == 0 && gone)
      throw Error(ErrorCode::kPeerLost, "memory: the peer closed the connection");
    return got;
  }

  bool can_share() const override { return true; }
  void give_segment_on_loop(std::shared_ptr<SharedSegment> segment) override {
    const std::lock_guard lock(wire_->mutex);
    wire_->segments[other()].push_back(std::move(segment));
  }
  std::shared_ptr<SharedSegment> take_segment_on_loop() override {
    const std::lock_guard lock(wire_->mutex);
    auto& mine = wire_->segments[static_cast<std::size_t>(end_)];
    if (mine.empty()) return nullptr;
    auto segment = std::move(mine.front());
    mine.pop_front();
    return segment;
  }
  std::string peer_text() const override { return "memory " + peer_; }

 private:
  std::size_t other() const { return static_cast<std::size_t>(1 - end_); }

  bool looks_ended_on_loop() override {
    const std::lock_guard lock(wire_->mutex);
    return wire_->gone[other()];
  }

  std::shared_ptr<Wire> wire_;
  const int end_;  // 0 dialled, 1 accepted
  const std::string peer_;
};

}  // namespace

// Who listens where. Any thread.
class MemoryHub {
 public:
  struct Place {
    Engine* engine;
    std::function<void(std::shared_ptr<Wire>)> accept_on_loop;
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
  // Posts the acceptance to the listener's engine; false if nobody listens there. Under the lock,
  // so that a listener that ends waits for it.
  bool call(const std::string& address, const std::shared_ptr<Wire>& wire) {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(address);
    if (found == places_.end()) return false;
    wire->bells[1] = found->second.engine->doorbell();
    found->second.engine->post([this, address, wire] {
      std::function<void(std::shared_ptr<Wire>)> accept;
      {
        const std::lock_guard inner(mutex_);
        if (const auto place = places_.find(address); place != places_.end()) {
          accept = place->second.accept_on_loop;
        }
      }
      if (accept) return accept(wire);
      const std::lock_guard inner(wire->mutex);
      wire->gone[1] = true;
      wire->bells[0]->ring();
    });
    return true;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Place> places_;
  int next_ = 0;
};

namespace {

class MemoryListener final : public Listener {
 public:
  MemoryListener(std::shared_ptr<MemoryHub> hub, const TransportEnvironment& env,
                 AcceptHandler on_accept)
      : hub_(std::move(hub)) {
    address_ = hub_->add(
        {&env.engine, [env, on_accept = std::move(on_accept)](std::shared_ptr<Wire> wire) {
           auto pipe = std::make_unique<MemoryPipe>(env.engine, std::move(wire), 1, "caller");
           auto connection =
               std::make_unique<StreamConnection>(std::move(pipe), env.engine, env.config, nullptr);
           StreamConnection& raw = *connection;
           raw.attach(on_accept(std::move(connection)));
         }});
  }
  ~MemoryListener() override { hub_->remove(address_); }
  std::string address() const override { return address_; }

 private:
  std::shared_ptr<MemoryHub> hub_;
  std::string address_;
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(const TransportEnvironment& environment, std::shared_ptr<MemoryHub> hub)
      : environment_(environment), hub_(std::move(hub)) {}

  std::string_view name() const override { return "memory"; }
  std::string unusable_because() const override { return {}; }
  std::unique_ptr<Listener> listen_on_loop(AcceptHandler on_accept) override {
    return std::make_unique<MemoryListener>(hub_, environment_, std::move(on_accept));
  }
  std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane, bool,
                                              ConnectionEvents& events) override {
    auto wire = std::make_shared<Wire>();
    wire->bells[0] = environment_.engine.doorbell();
    wire->bells[1] = environment_.engine.doorbell();  // until somebody answers
    const std::string where(address);
    if (!hub_->call(where, wire)) wire->gone[1] = true;
    environment_.engine.wake();
    auto pipe = std::make_unique<MemoryPipe>(environment_.engine, wire, 0, where);
    return std::make_unique<StreamConnection>(std::move(pipe), environment_.engine,
                                              environment_.config, &events);
  }
  std::shared_ptr<SharedSegment> make_segment(std::size_t bytes) override {
    return std::make_shared<HeapSegment>(bytes);
  }

 private:
  const TransportEnvironment environment_;
  std::shared_ptr<MemoryHub> hub_;
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
