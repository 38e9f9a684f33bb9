#include "transport/shm/pipes.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <array>
#include <cerrno>

#include "core/error.h"

namespace treadle {
namespace {

Bytes ring_memory(MemfdSegment& segment, std::size_t index) {
  if (segment.bytes().size() < 2 * Ring::kSharedBytes) {
    throw Error(ErrorCode::kCorrupt, "shm: rings of {} bytes, expected {}", segment.bytes().size(),
                2 * Ring::kSharedBytes);
  }
  return segment.bytes().subspan(index * Ring::kSharedBytes, Ring::kSharedBytes);
}

}  // namespace

void send_preamble(UnixSocket& socket, ShmPreamble kind, const Engine& engine,
                   const MemfdSegment* rings) {
  char byte = static_cast<char>(kind);
  const std::array pieces = {iovec{&byte, 1}};
  std::vector<int> fds = {engine.doorbell()->fd()};
  if (rings != nullptr) fds.push_back(rings->fd());
  // One byte always fits into a fresh socket.
  if (socket.write(pieces, fds) != 1) {
    throw Error(ErrorCode::kPeerLost, "shm: the peer's socket takes no preamble");
  }
}

std::optional<ShmPreamble> read_preamble(UnixSocket& socket) {
  char byte = 0;
  const std::array pieces = {iovec{&byte, 1}};
  if (socket.read(pieces) == 0) return std::nullopt;
  const auto kind = static_cast<ShmPreamble>(byte);
  if (kind != ShmPreamble::kControl && kind != ShmPreamble::kData && kind != ShmPreamble::kAnswer) {
    throw Error(ErrorCode::kCorrupt, "shm: a connection begins with byte {:#x}", byte);
  }
  return kind;
}

std::shared_ptr<Doorbell> take_doorbell(UnixSocket& socket) {
  const int fd = socket.take_fd();
  if (fd < 0) throw Error(ErrorCode::kCorrupt, "shm: a preamble without a doorbell");
  auto bell = std::make_shared<Doorbell>(fd);
  // A blocking descriptor would let a peer stop this rank.
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) == 0) {
    throw Error(ErrorCode::kCorrupt, "shm: the peer's doorbell would block");
  }
  return bell;
}

// ---- control ----

ShmControlPipe::ShmControlPipe(Engine& engine, std::unique_ptr<UnixSocket> socket,
                               std::shared_ptr<Doorbell> bell)
    : engine_(engine), socket_(std::move(socket)), bell_(std::move(bell)) {
  send_preamble(*socket_, bell_ ? ShmPreamble::kAnswer : ShmPreamble::kControl, engine_, nullptr);
}

ShmControlPipe::~ShmControlPipe() {
  if (events_ != nullptr) engine_.remove_fd_on_loop(socket_->fd());
}

void ShmControlPipe::start_on_loop(Events& events) {
  events_ = &events;
  engine_.add_fd_on_loop(socket_->fd(), EPOLLIN, [this](std::uint32_t ready) { on_events(ready); });
}

void ShmControlPipe::on_events(std::uint32_t ready) {
  if (!bell_) {
    try {
      if (!read_preamble(*socket_)) return;
      bell_ = take_doorbell(*socket_);
    } catch (const Error& error) {
      return events_->on_broken_on_loop(error);
    }
    events_->on_writable_on_loop();
    return;
  }
  if ((ready & EPOLLOUT) != 0) {
    engine_.change_fd_on_loop(socket_->fd(), EPOLLIN);
    events_->on_writable_on_loop();
  }
  if ((ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) events_->on_readable_on_loop();
}

std::size_t ShmControlPipe::try_write_on_loop(std::span<const iovec> pieces) {
  if (!bell_) return 0;
  std::size_t wrote = 0;
  if (!to_give_.empty()) {
    // The descriptor travels with the first bytes of its message.
    const int fd = static_cast<MemfdSegment&>(*to_give_.front()).fd();
    wrote = socket_->write(pieces, std::span(&fd, 1));
    if (wrote > 0) to_give_.pop_front();
  } else {
    wrote = socket_->write(pieces);
  }
  if (wrote == 0) engine_.change_fd_on_loop(socket_->fd(), EPOLLIN | EPOLLOUT);
  return wrote;
}

std::size_t ShmControlPipe::try_read_on_loop(std::span<const iovec> pieces) {
  return socket_->read(pieces);
}

void ShmControlPipe::give_segment_on_loop(std::shared_ptr<SharedSegment> segment) {
  to_give_.push_back(std::move(segment));
}

std::shared_ptr<SharedSegment> ShmControlPipe::take_segment_on_loop() {
  const int fd = socket_->take_fd();
  if (fd < 0) throw Error(ErrorCode::kCorrupt, "shm: a segment message without a descriptor");
  return MemfdSegment::adopt(fd);
}

// ---- data ----

ShmDataPipe::ShmDataPipe(Engine& engine, std::unique_ptr<UnixSocket> socket)
    : RingPipe(engine),
      socket_(std::move(socket)),
      rings_(MemfdSegment::make(2 * Ring::kSharedBytes)) {
  send_preamble(*socket_, ShmPreamble::kData, engine, rings_.get());
}

ShmDataPipe::ShmDataPipe(Engine& engine, std::unique_ptr<UnixSocket> socket,
                         std::shared_ptr<MemfdSegment> rings, std::shared_ptr<Doorbell> bell)
    : RingPipe(engine), socket_(std::move(socket)), rings_(std::move(rings)) {
  send_preamble(*socket_, ShmPreamble::kAnswer, engine, nullptr);
  join_on_loop(ring_memory(*rings_, 1), ring_memory(*rings_, 0), std::move(bell));
}

ShmDataPipe::~ShmDataPipe() {
  if (events() != nullptr) engine_.remove_fd_on_loop(socket_->fd());
}

void ShmDataPipe::start_on_loop(Events& given) {
  RingPipe::start_on_loop(given);
  engine_.add_fd_on_loop(socket_->fd(), EPOLLIN, [this](std::uint32_t) { on_socket(); });
}

// The answer's preamble, or the end.
void ShmDataPipe::on_socket() {
  try {
    if (!joined()) {
      if (!read_preamble(*socket_)) return;
      join_on_loop(ring_memory(*rings_, 0), ring_memory(*rings_, 1), take_doorbell(*socket_));
      events()->on_writable_on_loop();
      return;
    }
    char byte = 0;
    const std::array pieces = {iovec{&byte, 1}};
    socket_->read(pieces);
  } catch (const Error& error) {
    if (!joined()) return events()->on_broken_on_loop(error);
    ended_ = true;
    engine_.change_fd_on_loop(socket_->fd(), 0);
    events()->on_readable_on_loop();
  }
}

std::size_t ShmDataPipe::try_read_on_loop(std::span<const iovec> pieces) {
  const std::size_t got = RingPipe::try_read_on_loop(pieces);
  if (got == 0 && ended_) throw Error(ErrorCode::kPeerLost, "shm: the peer closed the connection");
  return got;
}

}  // namespace treadle
