#include "transport/stores/tcp_store_protocol.h"

#include "core/error.h"
#include "core/wire.h"

namespace treadle {
namespace {

constexpr std::uint32_t kFormat = 0x7DE15701;

std::vector<std::byte> framed(const WireBuffer& body) {
  WireBuffer frame;
  frame.put_bytes(body.bytes());
  return frame.take();
}

void expect_end(const WireReader& r) {
  if (r.left_bytes() != 0) {
    throw Error(ErrorCode::kCorrupt, "store message: {} bytes after its end", r.left_bytes());
  }
}

}  // namespace

std::vector<std::byte> store_frame(const StoreRequest& request) {
  WireBuffer body;
  body.put(kFormat);
  body.put(request.action);
  body.put(request.wait_ms);
  body.put_string(request.key);
  body.put_string(request.value);
  return framed(body);
}

std::vector<std::byte> store_frame(const StoreReply& reply) {
  WireBuffer body;
  body.put(reply.status);
  body.put_string(reply.value);
  return framed(body);
}

StoreRequest decode_store_request(ConstBytes body) {
  WireReader r(body);
  if (const auto format = r.get<std::uint32_t>(); format != kFormat) {
    throw Error(ErrorCode::kCorrupt, "store request: format {:#010x}, expected {:#010x}", format,
                kFormat);
  }
  const auto action = r.get<std::uint8_t>();
  if (action != static_cast<std::uint8_t>(StoreAction::kSet) &&
      action != static_cast<std::uint8_t>(StoreAction::kGet)) {
    throw Error(ErrorCode::kCorrupt, "store request: action {}, expected 1 or 2", action);
  }
  StoreRequest request;
  request.action = static_cast<StoreAction>(action);
  request.wait_ms = r.get<std::uint32_t>();
  request.key = r.get_string(kMaxStoreKeyBytes);
  request.value = r.get_string(kMaxStoreValueBytes);
  expect_end(r);
  return request;
}

StoreReply decode_store_reply(ConstBytes body) {
  WireReader r(body);
  const auto status = r.get<std::uint8_t>();
  if (status > static_cast<std::uint8_t>(StoreStatus::kRefused)) {
    throw Error(ErrorCode::kCorrupt, "store reply: status {}, expected 0 to 2", status);
  }
  StoreReply reply;
  reply.status = static_cast<StoreStatus>(status);
  reply.value = r.get_string(kMaxStoreValueBytes);
  expect_end(r);
  return reply;
}

void StoreFrameReader::append(ConstBytes bytes) {
  held_.insert(held_.end(), bytes.begin(), bytes.end());
}

std::optional<std::vector<std::byte>> StoreFrameReader::next() {
  if (held_.size() < sizeof(std::uint32_t)) return std::nullopt;
  WireReader r(held_);
  const auto length = r.get<std::uint32_t>();
  if (length > kMaxStoreFrameBytes) {
    throw Error(ErrorCode::kCorrupt, "store: a message of {} bytes, at most {}", length,
                kMaxStoreFrameBytes);
  }
  const std::size_t whole = sizeof(std::uint32_t) + length;
  if (held_.size() < whole) return std::nullopt;
  const auto begin = held_.begin() + sizeof(std::uint32_t);
  std::vector<std::byte> body(begin, begin + static_cast<std::ptrdiff_t>(length));
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(whole));
  return body;
}

}  // namespace treadle
