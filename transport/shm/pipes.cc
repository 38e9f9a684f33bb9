#include "transport/shm/pipes.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace treadle {

void send_preamble(UnixSocket& socket, ShmPreamble kind, const Engine& engine,
                   const MemfdSegment* rings) {
  char byte = static_cast<char>(kind);
  const std::array pieces = {iovec{&byte, 1}};
  std::vector<int> fds = {engine.doorbell()->fd()};
  if (rings != nullptr) fds.push_back(rings->fd());
  // One byte always fits into a fresh socket.
  if (socket.write(pieces, fds) != 1) {
    throw Error(ErrorCode::kPeerLost, "the peer went away before the connection stood");
  }
}

std::optional<ShmPreamble> read_preamble(UnixSocket& socket) {
  char byte = 0;
  const std::array pieces = {iovec{&byte, 1}};
  if (socket.read(pieces) == 0) return std::nullopt;
  const auto kind = static_cast<ShmPreamble>(byte);
  if (kind != ShmPreamble::kControl && kind != ShmPreamble::kData && kind != ShmPreamble::kAnswer) {
    throw Error(ErrorCode::kCorrupt, "a shared-memory connection begins with byte {:#x}",
                static_cast<unsigned char>(byte));
  }
  return kind;
}

std::shared_ptr<Doorbell> take_doorbell(UnixSocket& socket) {
  const int fd = socket.take_fd();
  if (fd < 0) throw Error(ErrorCode::kCorrupt, "a shared-memory preamble without a doorbell");
  auto bell = std::make_shared<Doorbell>(fd);
  // Ringing anything else could block this rank or raise a signal.
  std::array<char, 64> target{};
  const auto bytes =
      ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target.data(), target.size());
  const std::string_view name(target.data(), bytes < 0 ? 0 : static_cast<std::size_t>(bytes));
  const int flags = ::fcntl(fd, F_GETFL);
  if (name != "anon_inode:[eventfd]" || flags < 0 || (flags & O_NONBLOCK) == 0) {
    throw Error(ErrorCode::kCorrupt, "the peer's doorbell is no non-blocking eventfd but '{}'",
                name);
  }
  return bell;
}

// ---- WatchedSocket ----

void WatchedSocket::watch(Engine::FdHandler handler) {
  engine_.add_fd_on_loop(socket_.fd(), EPOLLIN, std::move(handler));
  watched_ = true;
}

void WatchedSocket::want_writable(bool wanted) {
  if (!watched_) return;
  engine_.change_fd_on_loop(socket_.fd(), EPOLLIN | (wanted ? EPOLLOUT : 0U));
}

void WatchedSocket::unwatch() {
  if (std::exchange(watched_, false)) engine_.remove_fd_on_loop(socket_.fd());
}

// ---- control ----

ShmControlPipe::ShmControlPipe(Engine& engine, UnixSocket socket, std::string peer,
                               std::shared_ptr<SegmentTable> segments,
                               std::shared_ptr<Doorbell> peer_doorbell)
    : socket_(engine, std::move(socket)),
      peer_(std::move(peer)),
      segments_(std::move(segments)),
      bell_(std::move(peer_doorbell)) {
  send_preamble(socket_.socket(), bell_ ? ShmPreamble::kAnswer : ShmPreamble::kControl, engine);
}

void ShmControlPipe::start_on_loop(Events& events) {
  events_ = &events;
  socket_.watch([this](std::uint32_t ready) { on_ready(ready); });
}

void ShmControlPipe::on_ready(std::uint32_t ready) {
  if (!bell_) return on_answer();
  const auto alive = alive_;  // `events_` may destroy this
  if ((ready & EPOLLOUT) != 0) {
    socket_.want_writable(false);
    events_->on_writable_on_loop();
  }
  if (*alive && (ready & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) {
    events_->on_readable_on_loop();
  }
}

void ShmControlPipe::on_answer() {
  try {
    const auto kind = read_preamble(socket_.socket());
    if (!kind) return;
    if (*kind != ShmPreamble::kAnswer) {
      throw Error(ErrorCode::kCorrupt, "{} answers with another call", peer_text());
    }
    bell_ = take_doorbell(socket_.socket());
  } catch (const Error& error) {
    socket_.unwatch();
    events_->on_broken_on_loop(error);
    return;
  }
  events_->on_writable_on_loop();
}

std::size_t ShmControlPipe::try_write_on_loop(std::span<const iovec> pieces) {
  if (!bell_) return 0;
  std::size_t wrote = 0;
  if (to_give_) {
    // The descriptor travels with the first byte of its message.
    const int fd = to_give_->fd();
    wrote = socket_.socket().write(pieces, std::span(&fd, 1));
    if (wrote > 0) to_give_.reset();
  } else {
    wrote = socket_.socket().write(pieces);
  }
  if (wrote == 0) socket_.want_writable(true);
  return wrote;
}

std::size_t ShmControlPipe::try_read_on_loop(std::span<const iovec> pieces) {
  try {
    return socket_.socket().read(pieces);
  } catch (const Error&) {
    socket_.unwatch();
    throw;
  }
}

void ShmControlPipe::give_segment_on_loop(std::shared_ptr<SharedSegment> segment) {
  TREADLE_CHECK(!to_give_, "a segment is given before the last one was sent");
  to_give_ = std::dynamic_pointer_cast<MemfdSegment>(std::move(segment));
  TREADLE_CHECK(to_give_, "a segment that another transport made");
}

std::shared_ptr<SharedSegment> ShmControlPipe::take_segment_on_loop() {
  const int fd = socket_.socket().take_fd();
  if (fd < 0) throw Error(ErrorCode::kCorrupt, "{} sent a segment without memory", peer_text());
  return segments_->adopt(fd);
}

// ---- data ----

ShmDataPipe::ShmDataPipe(Engine& engine, UnixSocket socket, std::string peer,
                         std::shared_ptr<MemfdSegment> rings)
    : RingPipe(engine),
      socket_(engine, std::move(socket)),
      peer_(std::move(peer)),
      rings_(std::move(rings)) {
  send_preamble(socket_.socket(), ShmPreamble::kData, engine, rings_.get());
}

ShmDataPipe::ShmDataPipe(Engine& engine, UnixSocket socket, std::string peer,
                         std::shared_ptr<MemfdSegment> rings,
                         std::shared_ptr<Doorbell> peer_doorbell)
    : RingPipe(engine), socket_(engine, std::move(socket)), peer_(std::move(peer)) {
  join_on_loop(std::move(rings), PipeEnd::kAccepted, std::move(peer_doorbell));
  send_preamble(socket_.socket(), ShmPreamble::kAnswer, engine);
}

void ShmDataPipe::start_on_loop(Events& events) {
  RingPipe::start_on_loop(events);
  socket_.watch([this](std::uint32_t) { on_ready(); });
}

void ShmDataPipe::on_ready() {
  if (joined()) return read_end();
  try {
    read_answer();
  } catch (const Error& error) {
    socket_.unwatch();
    events()->on_broken_on_loop(error);
  }
}

void ShmDataPipe::read_answer() {
  const auto kind = read_preamble(socket_.socket());
  if (!kind) return;
  if (*kind != ShmPreamble::kAnswer) {
    throw Error(ErrorCode::kCorrupt, "{} answers with another call", peer_text());
  }
  // The engine polls the rings from now on and finds what waits to be written.
  join_on_loop(std::move(rings_), PipeEnd::kDialled, take_doorbell(socket_.socket()));
}

void ShmDataPipe::read_end() {
  char byte = 0;
  const std::array pieces = {iovec{&byte, 1}};
  try {
    if (socket_.socket().read(pieces) == 0) return;
    throw Error(ErrorCode::kCorrupt, "{} wrote to the socket of a data lane", peer_text());
  } catch (const Error& error) {
    socket_.unwatch();
    end_on_loop(error);  // reported by the rings, after what is still in them
  }
}

}  // namespace treadle
