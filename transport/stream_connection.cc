#include "transport/stream_connection.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kBufferBytes = 64 << 10;
constexpr std::size_t kAheadOfLongBytes = 1 << 10;
constexpr std::size_t kReadBudgetBytes = 1 << 20;  // per call, so that no link starves the others
constexpr std::size_t kMaxPieces = 16;

iovec piece(const void* data, std::size_t bytes) {
  return {.iov_base = const_cast<void*>(data), .iov_len = bytes};
}

}  // namespace

void Pipe::give_segment_on_loop(std::shared_ptr<SharedSegment>) {
  TREADLE_CHECK(false, "{} cannot pass shared memory", peer_text());
}

std::unique_ptr<Connection> stream_connection(std::unique_ptr<Pipe> pipe, Engine& engine,
                                              const Config& config, ConnectionEvents* events) {
  return std::make_unique<StreamConnection>(std::move(pipe), engine, config, events);
}

StreamConnection::StreamConnection(std::unique_ptr<Pipe> pipe, Engine& engine, const Config& config,
                                   ConnectionEvents* events)
    : pipe_(std::move(pipe)),
      engine_(engine),
      segment_bytes_(config.segment_bytes),
      events_(events),
      buffer_(kBufferBytes) {
  if (events_ != nullptr) pipe_->start_on_loop(*this);
}

StreamConnection::~StreamConnection() { *alive_ = false; }

void StreamConnection::attach(ConnectionEvents& events) {
  events_ = &events;
  pipe_->start_on_loop(*this);
}

// ---- sending ----

void StreamConnection::post_on_loop(Outgoing message) {
  if (closed_) return;
  // An announcement speaks of a payload that it does not carry.
  if (!message.payload.empty()) message.header.total_bytes = message.payload.size();
  message.header.offset_bytes = 0;
  queue_[message.priority].push_back(std::move(message));
  try {
    flush();
  } catch (const Error& error) {
    close_later(error);
  }
  if (finished_.empty()) return;
  // The caller is in the middle of something: what has been sent is reported from the loop.
  engine_.post([this, alive = alive_] {
    if (*alive) report_finished();
  });
}

// Moves the next segments into the order of the wire. Little is staged, so that an urgent message
// overtakes.
void StreamConnection::stage() {
  std::size_t staged_bytes = 0;
  for (const Segment& s : staged_) staged_bytes += s.body.size();
  while (!queue_.empty() && staged_bytes < segment_bytes_ && staged_.size() < kMaxPieces / 2) {
    auto& messages = queue_.begin()->second;
    Outgoing& message = messages.front();
    const std::size_t offset = message.header.offset_bytes;
    const std::size_t bytes = std::min(segment_bytes_, message.payload.size() - offset);
    message.header.size_bytes = static_cast<std::uint32_t>(bytes);
    Segment segment;
    encode(message.header, segment.head);
    segment.body = message.payload.subspan(offset, bytes);
    segment.communicator = message.header.communicator;
    if (offset == 0) segment.segment = std::move(message.segment);
    message.header.offset_bytes += bytes;
    const bool last = offset + bytes == message.payload.size();
    if (last) segment.done = std::move(message.done);
    staged_bytes += bytes;
    staged_.push_back(std::move(segment));
    if (!last) continue;
    messages.pop_front();
    if (messages.empty()) queue_.erase(queue_.begin());
  }
}

bool StreamConnection::flush() {
  bool moved = false;
  while (true) {
    stage();
    if (staged_.empty()) return moved;
    std::array<iovec, kMaxPieces> pieces;
    std::size_t count = 0;
    for (Segment& s : staged_) {
      if (s.segment) {
        // The memory must not arrive before the messages in front of it have been written.
        if (count > 0) break;
        pipe_->give_segment_on_loop(std::move(s.segment));
      }
      if (s.written < s.head.size()) {
        pieces[count++] = piece(s.head.data() + s.written, s.head.size() - s.written);
      }
      const std::size_t body_done = s.written > s.head.size() ? s.written - s.head.size() : 0;
      if (s.body.size() > body_done) {
        pieces[count++] = piece(s.body.data() + body_done, s.body.size() - body_done);
      }
      if (count + 2 > kMaxPieces) break;
    }
    const std::size_t wrote = pipe_->try_write_on_loop(std::span(pieces).first(count));
    if (wrote == 0) return moved;
    moved = true;
    advance(wrote);
  }
}

void StreamConnection::advance(std::size_t bytes) {
  while (bytes > 0 ||
         (!staged_.empty() &&
          staged_.front().written == staged_.front().head.size() + staged_.front().body.size())) {
    Segment& s = staged_.front();
    const std::size_t left = s.head.size() + s.body.size() - s.written;
    const std::size_t used = std::min(left, bytes);
    s.written += used;
    bytes -= used;
    if (used < left) return;
    if (s.done) finished_.push_back({s.communicator, std::move(s.done)});
    staged_.pop_front();
  }
}

bool StreamConnection::on_writable_on_loop() {
  if (closed_) return false;
  bool moved = false;
  try {
    moved = flush();
  } catch (const Error& error) {
    close(error);
    return true;
  }
  report_finished();
  return moved;
}

// One at a time: what is told may cancel others, or end this connection.
void StreamConnection::report_finished() {
  const auto alive = alive_;
  while (*alive && !finished_.empty()) {
    const auto done = std::move(finished_.front().done);
    finished_.pop_front();
    done();
  }
}

void StreamConnection::cancel_on_loop(std::uint64_t communicator) {
  // What the wire has begun must end; its rest is kept here. `done` may own the payload, so it goes
  // after the copy, and so does the message in the queue whose first segments these are.
  for (Segment& s : staged_) {
    if (s.communicator != communicator) continue;
    if (s.body.data() != s.owned.data()) {  // not cancelled before
      s.owned.assign(s.body.begin(), s.body.end());
      s.body = s.owned;
    }
    s.done = nullptr;
  }
  for (auto it = queue_.begin(); it != queue_.end();) {
    std::erase_if(it->second,
                  [&](const Outgoing& m) { return m.header.communicator == communicator; });
    it = it->second.empty() ? queue_.erase(it) : std::next(it);
  }
  std::erase_if(finished_, [&](const Finished& f) { return f.communicator == communicator; });
  if (header_ && header_->communicator == communicator) {
    place_.reset();
    quiet_ = true;
  }
}

bool StreamConnection::flushed_on_loop() const {
  return closed_ || (queue_.empty() && staged_.empty());
}

// ---- receiving ----

bool StreamConnection::on_readable_on_loop() {
  if (closed_) return false;
  const auto alive = alive_;
  bool moved = false;
  std::size_t budget = kReadBudgetBytes;
  try {
    while (budget > 0) {
      const std::size_t before = got_ + end_;
      if (!read_some()) break;
      if (!*alive || closed_) return true;
      moved = true;
      const std::size_t after = got_ + end_;
      budget -= std::min(budget, after > before ? after - before : 1024);
    }
  } catch (const Error& error) {
    if (*alive) close(error);
    return true;
  }
  // What has been read ahead makes no descriptor readable.
  if (budget == 0 && end_ > begin_) {
    engine_.post([this, alive] {
      if (*alive) on_readable_on_loop();
    });
  }
  return moved;
}

// One step: part of a payload, or a header, or more bytes from the pipe. False: nothing is there.
bool StreamConnection::read_some() {
  if (header_) return read_payload();
  if (end_ - begin_ >= MessageHeader::kEncodedBytes) return take_header();
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const std::array pieces = {piece(buffer_.data() + end_, buffer_.size() - end_)};
  const std::size_t got = pipe_->try_read_on_loop(pieces);
  end_ += got;
  return got > 0;
}

bool StreamConnection::take_header() {
  const auto header = decode_message_header(ConstBytes(buffer_).subspan(begin_));
  begin_ += MessageHeader::kEncodedBytes;
  header_ = header;
  got_ = 0;
  quiet_ = false;
  place_.reset();
  const auto alive = alive_;
  auto place = events_->on_header_on_loop(header);
  if (!*alive || closed_) return true;
  if (place && header.size_bytes > 0) {
    TREADLE_CHECK(place->size() == header.size_bytes, "a place of {} bytes for a payload of {}",
                  place->size(), header.size_bytes);
    if (!quiet_) place_ = place;
  }
  if (header.size_bytes == 0) end_of_payload();
  return true;
}

bool StreamConnection::read_payload() {
  const std::size_t left = header_->size_bytes - got_;
  if (begin_ < end_) {
    const std::size_t here = std::min(left, end_ - begin_);
    if (place_) std::memcpy(place_->data() + got_, buffer_.data() + begin_, here);
    begin_ += here;
    got_ += here;
  } else {
    begin_ = end_ = 0;
    std::size_t got = 0;
    if (place_) {
      // The next header comes along with the end of this payload; after a long one, little more
      // than that, since the payload behind it will have a place of its own.
      const std::size_t ahead =
          header_->size_bytes < buffer_.size() ? buffer_.size() : kAheadOfLongBytes;
      const std::array pieces = {piece(place_->data() + got_, left), piece(buffer_.data(), ahead)};
      got = pipe_->try_read_on_loop(pieces);
      end_ = got > left ? got - left : 0;
      got = std::min(got, left);
    } else {
      const std::array pieces = {piece(buffer_.data(), std::min(left, buffer_.size()))};
      got = pipe_->try_read_on_loop(pieces);
    }
    if (got == 0) return false;
    got_ += got;
  }
  if (got_ == header_->size_bytes) end_of_payload();
  return true;
}

void StreamConnection::end_of_payload() {
  const MessageHeader header = *header_;
  const bool tell = !quiet_;
  header_.reset();
  place_.reset();
  auto segment = header.kind == MessageKind::kSegment ? pipe_->take_segment_on_loop() : nullptr;
  if (tell) events_->on_payload_on_loop(header, std::move(segment));
}

// ---- the end ----

void StreamConnection::on_broken_on_loop(const Error& error) { close(error); }

void StreamConnection::close_later(const Error& error) {
  engine_.post([this, alive = alive_, error] {
    if (*alive) close(error);
  });
}

void StreamConnection::close(const Error& error) {
  if (closed_) return;
  closed_ = true;
  queue_.clear();
  staged_.clear();
  const auto alive = alive_;
  report_finished();  // a peer that has got everything may close before this rank is told
  if (*alive) events_->on_closed_on_loop(error);  // may destroy this
}

}  // namespace treadle
