// What a tcp store's client and server say to each other. Private to the tcp store.
//
// Every frame is a u32 length and so many bytes. Format 1, little-endian:
//
//   request  u32 format     0x7DE15701
//            u8  action     StoreAction
//            u32 wait_ms    kGet: how long the server may wait for the key
//            string key     u32 length, at most 1 KiB
//            string value   u32 length, at most 1 MiB; empty for kGet
//   reply    u8  status     StoreStatus
//            string value   of kDone after kGet; why, for kRefused
//
// A client sends its next request after the reply to the last one.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"

namespace treadle {

inline constexpr std::size_t kMaxStoreKeyBytes = 1 << 10;
inline constexpr std::size_t kMaxStoreValueBytes = 1 << 20;
inline constexpr std::size_t kMaxStoreFrameBytes = kMaxStoreValueBytes + kMaxStoreKeyBytes + 64;

enum class StoreAction : std::uint8_t { kSet = 1, kGet = 2 };
enum class StoreStatus : std::uint8_t { kDone = 0, kAbsent = 1, kRefused = 2 };

struct StoreRequest {
  StoreAction action = StoreAction::kGet;
  std::uint32_t wait_ms = 0;
  std::string key;
  std::string value;
  bool operator==(const StoreRequest&) const = default;
};

struct StoreReply {
  StoreStatus status = StoreStatus::kDone;
  std::string value;
  bool operator==(const StoreReply&) const = default;
};

// With the length in front.
std::vector<std::byte> store_frame(const StoreRequest& request);
std::vector<std::byte> store_frame(const StoreReply& reply);
// Without it. Throw Error(kCorrupt).
StoreRequest decode_store_request(ConstBytes body);
StoreReply decode_store_reply(ConstBytes body);

// Cuts a byte stream into frames. Holds no more than has arrived, and at most about one frame.
class StoreFrameReader {
 public:
  void append(ConstBytes bytes);
  // The body of the next frame, if it is complete. Throws Error(kCorrupt) for a length beyond the
  // maximum, before anything is allocated for it.
  std::optional<std::vector<std::byte>> next();
  std::size_t held_bytes() const { return held_.size(); }

 private:
  std::vector<std::byte> held_;
};

}  // namespace treadle
