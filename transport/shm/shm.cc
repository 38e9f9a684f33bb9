#include "transport/shm/shm.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <vector>

#include "core/error.h"
#include "transport/failed_pipe.h"
#include "transport/shm/pipes.h"
#include "transport/stream_connection.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxStrangers = 1024;       // accepted and no preamble yet
constexpr std::chrono::seconds kGreetWithin{10};  // after that a stranger may be dropped
constexpr milliseconds kAcceptPause{100};         // when descriptors have run out

std::string random_name() {
  std::random_device source;
  return fmt::format("treadle-{}-{:08x}{:08x}{:08x}", ::getpid(), source(), source(), source());
}

class ShmListener final : public Listener {
 public:
  ShmListener(const TransportEnvironment& env, std::shared_ptr<SegmentTable> segments,
              AcceptHandler on_accept)
      : env_(env),
        segments_(std::move(segments)),
        on_accept_(std::move(on_accept)),
        name_(random_name()),
        socket_(UnixSocket::listen(name_)) {
    env_.engine.add_fd_on_loop(socket_.fd(), EPOLLIN, [this](std::uint32_t) { accept(); });
  }
  ~ShmListener() override {
    if (resume_ != 0) env_.engine.cancel_timer_on_loop(resume_);
    env_.engine.remove_fd_on_loop(socket_.fd());
    for (const Stranger& stranger : strangers_) {
      env_.engine.remove_fd_on_loop(stranger.socket->fd());
    }
  }
  std::string address() const override { return name_; }

 private:
  struct Stranger {
    std::unique_ptr<UnixSocket> socket;
    Deadline since;
  };
  using Strangers = std::vector<Stranger>;

  void accept();
  void pause();
  void greet(int fd);
  std::unique_ptr<Pipe> make_pipe(ShmPreamble kind, UnixSocket socket);
  Strangers::iterator find(int fd) {
    return std::ranges::find(strangers_, fd, [](const Stranger& s) { return s.socket->fd(); });
  }
  void drop(Strangers::iterator stranger) {
    env_.engine.remove_fd_on_loop(stranger->socket->fd());
    strangers_.erase(stranger);
  }

  const TransportEnvironment env_;
  const std::shared_ptr<SegmentTable> segments_;
  const AcceptHandler on_accept_;
  const std::string name_;
  UnixSocket socket_;
  Strangers strangers_;  // in the order of their arrival
  std::uint64_t resume_ = 0;
};

void ShmListener::accept() {
  try {
    while (auto socket = UnixSocket::accept(socket_)) {
      const auto now = Clock::now();
      while (!strangers_.empty() && now - strangers_.front().since > kGreetWithin) {
        drop(strangers_.begin());
      }
      if (strangers_.size() >= kMaxStrangers) continue;
      const int fd = socket->fd();
      strangers_.push_back({std::make_unique<UnixSocket>(std::move(*socket)), now});
      env_.engine.add_fd_on_loop(fd, EPOLLIN, [this, fd](std::uint32_t) { greet(fd); });
    }
  } catch (const Error& error) {
    env_.log(LogLevel::kWarn, "{}", error.what());
    pause();
  }
}

// Epoll would report the waiting connection again and again.
void ShmListener::pause() {
  env_.engine.change_fd_on_loop(socket_.fd(), 0);
  resume_ = env_.engine.add_timer_on_loop(Clock::now() + kAcceptPause, [this] {
    resume_ = 0;
    env_.engine.change_fd_on_loop(socket_.fd(), EPOLLIN);
  });
}

// The preamble says which kind of pipe the connection becomes.
void ShmListener::greet(int fd) {
  std::unique_ptr<Pipe> pipe;
  try {
    const auto kind = read_preamble(*find(fd)->socket);
    if (!kind) return;
    UnixSocket socket = std::move(*find(fd)->socket);
    env_.engine.remove_fd_on_loop(fd);
    std::erase_if(strangers_, [](const Stranger& s) { return s.socket->fd() < 0; });
    pipe = make_pipe(*kind, std::move(socket));
  } catch (const Error& error) {
    env_.log(LogLevel::kWarn, "a shared-memory connection failed before it stood: {}",
             error.what());
    if (const auto stranger = find(fd); stranger != strangers_.end()) drop(stranger);
    return;
  }
  auto connection =
      std::make_unique<StreamConnection>(std::move(pipe), env_.engine, env_.config, nullptr);
  StreamConnection& raw = *connection;
  raw.attach(on_accept_(std::move(connection)));
}

std::unique_ptr<Pipe> ShmListener::make_pipe(ShmPreamble kind, UnixSocket socket) {
  auto bell = take_doorbell(socket);
  if (kind == ShmPreamble::kControl) {
    return std::make_unique<ShmControlPipe>(env_.engine, std::move(socket), "caller", segments_,
                                            std::move(bell));
  }
  const int memory = socket.take_fd();
  if (kind != ShmPreamble::kData || memory < 0) {
    throw Error(ErrorCode::kCorrupt, "a shared-memory call without memory");
  }
  return std::make_unique<ShmDataPipe>(env_.engine, std::move(socket), "caller",
                                       segments_->adopt(memory), std::move(bell));
}

class ShmTransport final : public Transport {
 public:
  ShmTransport(const TransportEnvironment& env, std::shared_ptr<SegmentTable> segments)
      : env_(env), segments_(std::move(segments)) {}

  std::string_view name() const override { return "shm"; }
  std::string unusable_because() const override {
    try {
      MemfdSegment::make(4096);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }
  std::unique_ptr<Listener> listen_on_loop(AcceptHandler on_accept) override {
    return std::make_unique<ShmListener>(env_, segments_, std::move(on_accept));
  }
  std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane lane, bool,
                                              ConnectionEvents& events) override {
    return std::make_unique<StreamConnection>(call(std::string(address), lane), env_.engine,
                                              env_.config, &events);
  }
  std::shared_ptr<SharedSegment> make_segment(std::size_t bytes) override {
    return segments_->make(bytes);
  }

 private:
  std::unique_ptr<Pipe> call(const std::string& name, Lane lane) {
    try {
      UnixSocket socket = UnixSocket::connect(name);
      if (lane == Lane::kControl) {
        return std::make_unique<ShmControlPipe>(env_.engine, std::move(socket), name, segments_);
      }
      return std::make_unique<ShmDataPipe>(env_.engine, std::move(socket), name,
                                           segments_->make(kRingPairBytes));
    } catch (const Error& error) {
      return std::make_unique<FailedPipe>(env_.engine, error, "shm " + name);
    }
  }

  const TransportEnvironment env_;
  const std::shared_ptr<SegmentTable> segments_;
};

}  // namespace

std::unique_ptr<Transport> shm_transport(const TransportEnvironment& environment,
                                         std::shared_ptr<SegmentTable> segments) {
  return std::make_unique<ShmTransport>(environment, std::move(segments));
}

TransportRow shm_row() {
  return {"shm", "shared memory between the processes of one host", true,
          [segments = std::make_shared<SegmentTable>()](const TransportEnvironment& env) {
            return shm_transport(env, segments);
          }};
}

}  // namespace treadle
