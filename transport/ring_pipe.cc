#include "transport/ring_pipe.h"

#include <utility>

namespace treadle {
namespace {

struct RingPair {
  Bytes out;
  Bytes in;
};

RingPair rings_of(SharedSegment& memory, PipeEnd end) {
  const Bytes all = memory.bytes();
  if (all.size() < kRingPairBytes) {
    throw Error(ErrorCode::kCorrupt, "shared-memory rings: {} bytes, expected {}", all.size(),
                kRingPairBytes);
  }
  RingPair rings{all.first(ring_bytes(kForwardRingBytes)),
                 all.subspan(ring_bytes(kForwardRingBytes), ring_bytes(kBackRingBytes))};
  if (end == PipeEnd::kAccepted) std::swap(rings.out, rings.in);
  return rings;
}

}  // namespace

RingPipe::~RingPipe() {
  *alive_ = false;
  if (!joined()) return;
  if (events_ != nullptr) engine_.remove_poller_on_loop(*this);
  out_->close();
  in_->close();
  peer_->ring();
}

void RingPipe::close_end(SharedSegment& memory, PipeEnd end, const Doorbell& peer) {
  const RingPair rings = rings_of(memory, end);
  RingWriter(rings.out).close();
  RingReader(rings.in).close();
  peer.ring();
}

void RingPipe::start_on_loop(Events& events) {
  events_ = &events;
  if (joined()) engine_.add_poller_on_loop(*this);
}

void RingPipe::join_on_loop(std::shared_ptr<SharedSegment> memory, PipeEnd end,
                            std::shared_ptr<Doorbell> peer) {
  const RingPair rings = rings_of(*memory, end);
  memory_ = std::move(memory);
  peer_ = std::move(peer);
  out_.emplace(rings.out);
  in_.emplace(rings.in);
  full_ = true;  // messages may be waiting already
  if (events_ != nullptr) engine_.add_poller_on_loop(*this);
}

void RingPipe::end_on_loop(const Error& error) {
  if (!end_) end_ = error;
}

std::size_t RingPipe::try_write_on_loop(std::span<const iovec> pieces) {
  if (!joined()) return 0;
  const std::size_t wrote = out_->try_write(pieces);
  full_ = wrote == 0;
  if (wrote > 0 && out_->reader_wants_ring()) peer_->ring();
  return wrote;
}

std::size_t RingPipe::try_read_on_loop(std::span<const iovec> pieces) {
  if (!joined()) return 0;
  const bool gone = peer_is_gone();  // before reading, so that its last bytes are seen
  const std::size_t got = in_->try_read(pieces);
  if (got > 0) {
    if (in_->writer_wants_ring()) peer_->ring();
    return got;
  }
  if (!gone) return 0;
  finished_ = true;
  throw end_.value_or(
      Error(ErrorCode::kPeerLost, "{}: the peer closed the connection", peer_text()));
}

bool RingPipe::poll_on_loop() {
  if (finished_) return false;
  const auto alive = alive_;  // `events_` may destroy this
  try {
    const bool gone = peer_is_gone();
    const bool room = full_ && out_->writable_bytes() > 0;
    const bool data = in_->readable_bytes() > 0;
    bool moved = false;
    if (room) {
      full_ = false;
      moved = events_->on_writable_on_loop();
    }
    if (*alive && (data || gone)) moved |= events_->on_readable_on_loop();
    return moved;
  } catch (const Error& error) {
    if (!*alive) return true;
    finished_ = true;
    events_->on_broken_on_loop(error);
    return true;
  }
}

// The engine polls once more after this, and does not sleep if that moved anything; so a pipe that
// becomes full after this is announced again before any sleep.
void RingPipe::announce_sleep_on_loop(bool asleep) {
  in_->set_asleep(asleep);
  out_->set_waiting(asleep && full_);
}

}  // namespace treadle
