#include "transport/shm/shm.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <vector>

#include "transport/shm/pipes.h"
#include "transport/stream_connection.h"

namespace treadle {
namespace {

std::string random_name() {
  std::random_device source;
  return fmt::format("treadle-{}-{:08x}{:08x}", ::getpid(), source(), source());
}

class ShmListener final : public Listener {
 public:
  ShmListener(const TransportEnvironment& env, AcceptHandler on_accept)
      : env_(env),
        on_accept_(std::move(on_accept)),
        name_(random_name()),
        socket_(UnixSocket::listen(name_)) {
    env_.engine.add_fd_on_loop(socket_.fd(), EPOLLIN, [this](std::uint32_t) { accept(); });
  }
  ~ShmListener() override {
    env_.engine.remove_fd_on_loop(socket_.fd());
    for (const auto& socket : waiting_) env_.engine.remove_fd_on_loop(socket->fd());
  }
  std::string address() const override { return name_; }

 private:
  void accept() {
    for (int fd = UnixSocket::accept(socket_.fd()); fd >= 0;
         fd = UnixSocket::accept(socket_.fd())) {
      waiting_.push_back(std::make_unique<UnixSocket>(fd));
      env_.engine.add_fd_on_loop(fd, EPOLLIN, [this, fd](std::uint32_t) { greet(fd); });
    }
  }

  // The preamble says which kind of pipe it becomes.
  void greet(int fd) {
    const auto found = std::ranges::find(waiting_, fd, [](const auto& s) { return s->fd(); });
    std::unique_ptr<Pipe> pipe;
    try {
      const auto kind = read_preamble(**found);
      if (!kind) return;
      env_.engine.remove_fd_on_loop(fd);
      auto socket = std::move(*found);
      waiting_.erase(found);
      pipe = make_pipe(*kind, std::move(socket));
    } catch (const Error& error) {
      env_.log(LogLevel::kWarn, "a shared-memory connection failed: {}", error.what());
      if (const auto left = std::ranges::find(waiting_, fd, [](const auto& s) { return s->fd(); });
          left != waiting_.end()) {
        env_.engine.remove_fd_on_loop(fd);
        waiting_.erase(left);
      }
      return;
    }
    auto connection =
        std::make_unique<StreamConnection>(std::move(pipe), env_.engine, env_.config, nullptr);
    StreamConnection& raw = *connection;
    raw.attach(on_accept_(std::move(connection)));
  }

  std::unique_ptr<Pipe> make_pipe(ShmPreamble kind, std::unique_ptr<UnixSocket> socket) {
    auto bell = take_doorbell(*socket);
    if (kind == ShmPreamble::kControl) {
      return std::make_unique<ShmControlPipe>(env_.engine, std::move(socket), std::move(bell));
    }
    const int memory = socket->take_fd();
    if (memory < 0) throw Error(ErrorCode::kCorrupt, "shm: a data lane without memory");
    return std::make_unique<ShmDataPipe>(env_.engine, std::move(socket),
                                         MemfdSegment::adopt(memory), std::move(bell));
  }

  const TransportEnvironment env_;
  const AcceptHandler on_accept_;
  const std::string name_;
  UnixSocket socket_;
  std::vector<std::unique_ptr<UnixSocket>> waiting_;
};

// Reports a failure to connect from the loop, never from inside connect.
class FailedPipe final : public Pipe {
 public:
  FailedPipe(Engine& engine, const Error& error) : engine_(engine), error_(error) {}
  ~FailedPipe() override { *alive_ = false; }
  void start_on_loop(Events& events) override {
    engine_.post([alive = alive_, &events, error = error_] {
      if (*alive) events.on_broken_on_loop(error);
    });
  }
  std::size_t try_write_on_loop(std::span<const iovec>) override { return 0; }
  std::size_t try_read_on_loop(std::span<const iovec>) override { return 0; }
  std::string peer_text() const override { return "shm"; }

 private:
  Engine& engine_;
  const Error error_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class ShmTransport final : public Transport {
 public:
  explicit ShmTransport(const TransportEnvironment& env) : env_(env) {}

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
    return std::make_unique<ShmListener>(env_, std::move(on_accept));
  }
  std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane lane, bool,
                                              ConnectionEvents& events) override {
    std::unique_ptr<Pipe> pipe;
    try {
      auto socket = std::make_unique<UnixSocket>(UnixSocket::connect(std::string(address)));
      if (lane == Lane::kControl) {
        pipe = std::make_unique<ShmControlPipe>(env_.engine, std::move(socket), nullptr);
      } else {
        pipe = std::make_unique<ShmDataPipe>(env_.engine, std::move(socket));
      }
    } catch (const Error& error) {
      pipe = std::make_unique<FailedPipe>(env_.engine, error);
    }
    return std::make_unique<StreamConnection>(std::move(pipe), env_.engine, env_.config, &events);
  }
  std::shared_ptr<SharedSegment> make_segment(std::size_t bytes) override {
    return MemfdSegment::make(bytes);
  }

 private:
  const TransportEnvironment env_;
};

}  // namespace

std::unique_ptr<Transport> shm_transport(const TransportEnvironment& environment) {
  return std::make_unique<ShmTransport>(environment);
}

}  // namespace treadle
