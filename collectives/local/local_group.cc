#include "collectives/local/local_group.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "core/error.h"

// The segment:
//
//   per rank, 256 bytes, written by that rank only:
//     u32 copied, reduced, finished   pieces, over the life of the group, modulo 2^32
//     u32 asleep                      ring the doorbell after publishing
//     u64 announcement[6]             of call n at n % 6: sequence << 32, fingerprint's low half, 1
//     u8  description[6][24]          likewise
//   per rank, 2 staging halves of window_bytes; then 2 result halves of window_bytes, in which each
//   rank writes its own slice
//
// A call is cut into pieces; piece k of the group uses half k % 2. A rank stages piece k+2 only
// when all ranks have finished piece k, and when they called the same as it did two calls ago. So
// nobody is more than two calls ahead, what is compared is at most two calls old, and a slot of six
// is never reused before everybody has compared it.

namespace treadle {
namespace {

constexpr std::size_t kBlockBytes = 256;
constexpr std::size_t kAnnouncementAt = 16;
constexpr std::size_t kDescriptionAt = 64;
constexpr std::uint64_t kSlots = 6;
constexpr std::size_t kLine = LocalGroup::kLineBytes;
// Up to this size everybody folds everything: one synchronisation instead of two.
constexpr std::size_t kSymmetricBytes = 32 << 10;

using Atomic32 = std::atomic_ref<std::uint32_t>;
using Atomic64 = std::atomic_ref<std::uint64_t>;

std::uint64_t& word64(std::byte* at) { return *reinterpret_cast<std::uint64_t*>(at); }
std::uint32_t& word32(std::byte* at) { return *reinterpret_cast<std::uint32_t*>(at); }

std::size_t lines(std::size_t bytes) { return (bytes + kLine - 1) / kLine; }

}  // namespace

std::size_t LocalGroup::segment_bytes(int ranks, std::size_t window_bytes) {
  const auto n = static_cast<std::size_t>(ranks);
  return n * kBlockBytes + (2 * n + 2) * window_bytes;
}

void LocalGroup::start_at(Bytes segment, int ranks, std::uint32_t pieces) {
  for (int r = 0; r < ranks; ++r) {
    std::byte* block = segment.data() + static_cast<std::size_t>(r) * kBlockBytes;
    for (const Counter counter : {kCopied, kReduced, kFinished})
      word32(block + 4 * counter) = pieces;
  }
}

LocalGroup::LocalGroup(Bytes segment, int index, int ranks, std::size_t window_bytes,
                       std::vector<std::shared_ptr<Doorbell>> doorbells)
    : segment_(segment),
      index_(index),
      ranks_(ranks),
      window_bytes_(window_bytes),
      doorbells_(std::move(doorbells)),
      inputs_(static_cast<std::size_t>(ranks)),
      agreed_(static_cast<std::size_t>(ranks)) {
  TREADLE_CHECK(segment.size() >= segment_bytes(ranks, window_bytes),
                "a segment of {} bytes, {} needed", segment.size(),
                segment_bytes(ranks, window_bytes));
  TREADLE_CHECK(window_bytes % kLine == 0 && window_bytes / kLine >= inputs_.size(),
                "a window of {} bytes for {} ranks", window_bytes, ranks);
  base_ = load(index_, kFinished);
}

// ---- the shared words ----

std::byte* LocalGroup::block(int rank) const {
  return segment_.data() + static_cast<std::size_t>(rank) * kBlockBytes;
}

std::byte* LocalGroup::staging(int rank, std::uint32_t piece) const {
  const std::size_t half = 2 * static_cast<std::size_t>(rank) + (base_ + piece) % 2;
  return block(ranks_) + half * window_bytes_;
}

std::byte* LocalGroup::result(std::uint32_t piece) const { return staging(ranks_, piece); }

std::uint32_t LocalGroup::load(int rank, Counter counter) const {
  return Atomic32(word32(block(rank) + 4 * counter)).load(std::memory_order_acquire);
}

void LocalGroup::publish(Counter counter, std::uint32_t value) {
  Atomic32(word32(block(index_) + 4 * counter)).store(value, std::memory_order_release);
}

// Publish, full fence, look: either a sleeper's last look sees what was published, or it is rung.
void LocalGroup::ring_sleepers() {
  Atomic32 own(word32(block(index_) + 4 * kAsleep));
  own.exchange(0, std::memory_order_seq_cst);  // a full fence; whoever publishes is awake
  for (int r = 0; r < ranks_; ++r) {
    if (r == index_) continue;
    Atomic32 asleep(word32(block(r) + 4 * kAsleep));
    if (asleep.load(std::memory_order_seq_cst) != 0)
      doorbells_[static_cast<std::size_t>(r)]->ring();
  }
}

void LocalGroup::announce_sleep(bool asleep) {
  Atomic32(word32(block(index_) + 4 * kAsleep)).exchange(asleep ? 1 : 0, std::memory_order_seq_cst);
}

bool LocalGroup::reached(int rank, Counter counter, std::uint32_t value) const {
  return static_cast<std::int32_t>(load(rank, counter) - value) >= 0;
}

std::uint64_t LocalGroup::announcement_of(int rank, std::uint64_t call) const {
  std::byte* slots = block(rank) + kAnnouncementAt;
  return Atomic64(word64(slots + 8 * (call % kSlots))).load(std::memory_order_acquire);
}

Description LocalGroup::description_of(int rank, std::uint64_t call) const {
  std::array<std::byte, Description::kEncodedBytes> raw{};
  std::byte* from = block(rank) + kDescriptionAt + raw.size() * (call % kSlots);
  for (std::size_t i = 0; i < raw.size(); i += 8) {
    const std::uint64_t word = Atomic64(word64(from + i)).load(std::memory_order_relaxed);
    std::memcpy(raw.data() + i, &word, 8);
  }
  return decode_description(raw);
}

// Whether the peer is known to have made the same first `calls` calls. Asked before anything of a
// call is used.
bool LocalGroup::agrees(int rank, std::uint64_t calls) {
  auto& known = agreed_[static_cast<std::size_t>(rank)];
  while (known < calls && announcement_of(rank, known) == announcement_of(index_, known)) ++known;
  return known >= calls;
}

bool LocalGroup::all_reached(Counter counter, std::uint32_t value, bool need_agreement) {
  for (int r = 0; r < ranks_; ++r) {
    if (r == index_) continue;
    if (!reached(r, counter, value) || (need_agreement && !agrees(r, calls_))) return false;
  }
  return true;
}

std::optional<LocalGroup::Mismatch> LocalGroup::mismatch() const {
  for (int r = 0; r < ranks_; ++r) {
    const std::uint64_t call = agreed_[static_cast<std::size_t>(r)];
    if (r == index_ || call >= calls_) continue;
    const std::uint64_t mine = announcement_of(index_, call);
    const std::uint64_t theirs = announcement_of(r, call);
    if (theirs == 0 || theirs == mine || theirs >> 32 != mine >> 32) continue;
    return Mismatch{r, static_cast<std::uint32_t>(mine >> 32), description_of(index_, call),
                    description_of(r, call)};
  }
  return std::nullopt;
}

std::vector<int> LocalGroup::missing() const {
  std::vector<int> absent;
  for (int r = 0; r < ranks_; ++r) {
    const std::uint64_t theirs = announcement_of(r, calls_ - 1);
    const auto sequence = static_cast<std::uint32_t>(theirs >> 32);
    if (theirs == 0 || static_cast<std::int32_t>(sequence - call_.sequence) < 0)
      absent.push_back(r);
  }
  return absent;
}

// ---- a call ----

void LocalGroup::begin(const LocalCall& call) {
  base_ += pieces_;
  call_ = call;
  const std::uint64_t slot = calls_++ % kSlots;
  in_ = reduced_ = out_ = 0;
  plan_pieces();
  const auto raw = encode(call.description);
  std::byte* description = block(index_) + kDescriptionAt + raw.size() * slot;
  for (std::size_t i = 0; i < raw.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, raw.data() + i, 8);
    Atomic64(word64(description + i)).store(word, std::memory_order_relaxed);
  }
  const std::uint64_t announcement = static_cast<std::uint64_t>(call.sequence) << 32 |
                                     (call.description.fingerprint() & 0xFFFFFFFFULL) | 1;
  Atomic64(word64(block(index_) + kAnnouncementAt + 8 * slot))
      .store(announcement, std::memory_order_release);
}

// Depends on what all ranks know only.
void LocalGroup::plan_pieces() {
  const auto n = static_cast<std::size_t>(ranks_);
  sliced_ = false;
  piece_bytes_ = window_bytes_;
  switch (call_.kind) {
    case LocalKind::kAllReduce:
      block_bytes_ = call_.in.size();
      sliced_ = ranks_ > 1 && block_bytes_ > kSymmetricBytes;
      break;
    case LocalKind::kReduceScatter:
      block_bytes_ = call_.out.size();
      piece_bytes_ = window_bytes_ / n / kLine * kLine;
      break;
    case LocalKind::kAllGather:
      block_bytes_ = call_.in.size();
      break;
    case LocalKind::kBroadcast:
      block_bytes_ = call_.out.size();
      break;
    case LocalKind::kBarrier:
      block_bytes_ = 0;
      break;
  }
  pieces_ = static_cast<std::uint32_t>(
      std::max<std::size_t>(1, (block_bytes_ + piece_bytes_ - 1) / piece_bytes_));
}

std::size_t LocalGroup::bytes_of_piece(std::uint32_t piece) const {
  const std::size_t from = piece * piece_bytes_;
  return from >= block_bytes_ ? 0 : std::min(piece_bytes_, block_bytes_ - from);
}

bool LocalGroup::window_free() {
  const std::uint64_t compared = calls_ < 2 ? 0 : calls_ - 2;
  for (int r = 0; r < ranks_; ++r) {
    if (r == index_) continue;
    if (!reached(r, kFinished, base_ + in_ - 1) || !agrees(r, compared)) return false;
  }
  return true;
}

bool LocalGroup::inputs_ready() {
  if (call_.kind == LocalKind::kBroadcast) {
    return call_.root == index_ ||
           (reached(call_.root, kCopied, base_ + out_ + 1) && agrees(call_.root, calls_));
  }
  return all_reached(sliced_ ? kReduced : kCopied, base_ + out_ + 1, !sliced_);
}

LocalGroup::Progress LocalGroup::step() {
  if (in_ < pieces_ && in_ - out_ < 2 && window_free()) {
    copy_in();
    ++in_;
    publish(kCopied, base_ + in_);
  } else if (sliced_ && reduced_ < in_ && all_reached(kCopied, base_ + reduced_ + 1, true)) {
    reduce_slice();
    ++reduced_;
    publish(kReduced, base_ + reduced_);
  } else if (out_ < (sliced_ ? reduced_ : in_) && inputs_ready()) {
    copy_out();
    ++out_;
    if (!sliced_) publish(kReduced, base_ + out_);
    publish(kFinished, base_ + out_);
  } else {
    return Progress::kBlocked;
  }
  ring_sleepers();
  return out_ == pieces_ ? Progress::kDone : Progress::kMoved;
}

void LocalGroup::copy_in() {
  const std::size_t bytes = bytes_of_piece(in_);
  if (bytes == 0) return;
  const std::size_t at = in_ * piece_bytes_;
  std::byte* to = staging(index_, in_);
  if (call_.kind == LocalKind::kReduceScatter) {
    for (std::size_t b = 0; b < static_cast<std::size_t>(ranks_); ++b) {
      if (b == static_cast<std::size_t>(index_)) continue;  // folded from where it lies
      std::memcpy(to + b * piece_bytes_, call_.in.data() + b * block_bytes_ + at, bytes);
    }
  } else if (sliced_) {
    const Slice own = own_slice(bytes);  // likewise
    std::memcpy(to, call_.in.data() + at, own.begin);
    std::memcpy(to + own.end, call_.in.data() + at + own.end, bytes - own.end);
  } else if (call_.kind == LocalKind::kBroadcast) {
    if (call_.root == index_) std::memcpy(to, call_.out.data() + at, bytes);
  } else {
    std::memcpy(to, call_.in.data() + at, bytes);
  }
}

// `own` is this rank's input, which may not have been staged.
void LocalGroup::fold_from_staging(std::byte* to, std::uint32_t piece, std::size_t from_byte,
                                   std::size_t bytes, const std::byte* own) {
  for (int r = 0; r < ranks_; ++r) {
    inputs_[static_cast<std::size_t>(r)] = r == index_ ? own : staging(r, piece) + from_byte;
  }
  call_.fold(to, inputs_.data(), ranks_, bytes / size_of(call_.dtype), call_.scale);
}

// The part of a piece that this rank folds.
LocalGroup::Slice LocalGroup::own_slice(std::size_t bytes) const {
  const auto n = static_cast<std::size_t>(ranks_);
  const auto i = static_cast<std::size_t>(index_);
  return {std::min(bytes, lines(bytes) * i / n * kLine),
          std::min(bytes, lines(bytes) * (i + 1) / n * kLine)};
}

void LocalGroup::reduce_slice() {
  const Slice own = own_slice(bytes_of_piece(reduced_));
  if (own.begin == own.end) return;
  fold_from_staging(result(reduced_) + own.begin, reduced_, own.begin, own.end - own.begin,
                    call_.in.data() + reduced_ * piece_bytes_ + own.begin);
}

void LocalGroup::copy_out() {
  const std::size_t bytes = bytes_of_piece(out_);
  if (bytes == 0) return;
  const std::size_t at = out_ * piece_bytes_;
  std::byte* to = call_.out.data() + at;
  switch (call_.kind) {
    case LocalKind::kAllReduce:
      if (sliced_) {
        std::memcpy(to, result(out_), bytes);
      } else {
        fold_from_staging(to, out_, 0, bytes, staging(index_, out_));
      }
      break;
    case LocalKind::kReduceScatter:
      fold_from_staging(to, out_, static_cast<std::size_t>(index_) * piece_bytes_, bytes,
                        call_.in.data() + static_cast<std::size_t>(index_) * block_bytes_ + at);
      break;
    case LocalKind::kAllGather:
      for (int r = 0; r < ranks_; ++r) {
        std::byte* place = call_.out.data() + static_cast<std::size_t>(r) * block_bytes_ + at;
        // Its own block may lie there already.
        const std::byte* from = r == index_ ? call_.in.data() + at : staging(r, out_);
        if (from != place) std::memmove(place, from, bytes);
      }
      break;
    case LocalKind::kBroadcast:
      if (call_.root != index_) std::memcpy(to, staging(call_.root, out_), bytes);
      break;
    case LocalKind::kBarrier:
      break;
  }
}

}  // namespace treadle
