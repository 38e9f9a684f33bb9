#include "transport/ring_pipe.h"

namespace treadle {

RingPipe::~RingPipe() {
  if (joined() && events_ != nullptr) engine_.remove_poller_on_loop(*this);
}

void RingPipe::start_on_loop(Events& events) {
  events_ = &events;
  if (joined()) engine_.add_poller_on_loop(*this);
}

void RingPipe::join_on_loop(Bytes outgoing, Bytes incoming, std::shared_ptr<Doorbell> peer) {
  out_.emplace(outgoing);
  in_.emplace(incoming);
  bell_ = std::move(peer);
  full_ = true;  // messages may be waiting already
  if (events_ != nullptr) engine_.add_poller_on_loop(*this);
}

std::size_t RingPipe::try_write_on_loop(std::span<const iovec> pieces) {
  if (!joined()) return 0;
  std::size_t wrote = out_->try_write(pieces);
  if (wrote == 0) {
    // Ask for a ring, then look once more: the reader may have made room in between.
    out_->set_writer_waiting(true);
    wrote = out_->try_write(pieces);
  }
  full_ = wrote == 0;
  if (wrote == 0) return 0;
  out_->set_writer_waiting(false);
  if (out_->reader_wants_ring()) bell_->ring();
  return wrote;
}

std::size_t RingPipe::try_read_on_loop(std::span<const iovec> pieces) {
  if (!joined()) return 0;
  const std::size_t got = in_->try_read(pieces);
  if (got == 0) return 0;
  if (in_->writer_wants_ring()) bell_->ring();
  return got;
}

bool RingPipe::poll_on_loop() {
  bool moved = false;
  try {
    if (full_ && out_->writable() > 0) {
      full_ = false;
      moved |= events_->on_writable_on_loop();
    }
    if (in_->readable() > 0 || looks_ended_on_loop()) moved |= events_->on_readable_on_loop();
  } catch (const Error& error) {
    events_->on_broken_on_loop(error);
    return true;
  }
  return moved;
}

void RingPipe::announce_sleep_on_loop(bool asleep) { in_->set_reader_asleep(asleep); }

}  // namespace treadle
