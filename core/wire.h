// Reading and writing bytes that cross a process boundary: little-endian, bounds-checked.
//
// A reader never trusts a length: get_bytes and get_string take the largest size they may return.
#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/bytes.h"
#include "core/error.h"

namespace treadle {

static_assert(std::endian::native == std::endian::little, "big-endian hosts need byte swaps here");

template <typename T>
concept WireScalar = std::is_arithmetic_v<T> || std::is_enum_v<T>;

// Fills a span that is large enough; writing past its end is a bug of ours.
class WireWriter {
 public:
  explicit WireWriter(Bytes out) : out_(out) {}

  template <WireScalar T>
  void put(T value) {
    TREADLE_CHECK(out_.size() - at_ >= sizeof(T), "wire writer: {} bytes is too small",
                  out_.size());
    std::memcpy(out_.data() + at_, &value, sizeof(T));
    at_ += sizeof(T);
  }
  std::size_t written_bytes() const { return at_; }

 private:
  Bytes out_;
  std::size_t at_ = 0;
};

// Grows; for messages of variable size.
class WireBuffer {
 public:
  template <WireScalar T>
  void put(T value) {
    const auto* raw = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), raw, raw + sizeof(T));
  }
  void put_bytes(ConstBytes bytes) {  // u32 length, then the bytes
    put(static_cast<std::uint32_t>(bytes.size()));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void put_string(std::string_view text) { put_bytes(std::as_bytes(std::span(text))); }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Throws kCorrupt when the bytes end early or a length exceeds what the caller allows.
class WireReader {
 public:
  explicit WireReader(ConstBytes in) : in_(in) {}

  template <WireScalar T>
  T get() {
    need(sizeof(T));
    T value;
    std::memcpy(&value, in_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  ConstBytes get_bytes(std::size_t max_bytes) {
    const auto length = get<std::uint32_t>();
    if (length > max_bytes) {
      throw Error(ErrorCode::kCorrupt, "wire: field of {} bytes, at most {}", length, max_bytes);
    }
    need(length);
    const ConstBytes field = in_.subspan(at_, length);
    at_ += length;
    return field;
  }
  std::string get_string(std::size_t max_bytes) {
    const ConstBytes raw = get_bytes(max_bytes);
    return std::string(reinterpret_cast<const char*>(raw.data()), raw.size());
  }
  std::size_t left_bytes() const { return in_.size() - at_; }

 private:
  void need(std::size_t bytes) const {
    if (in_.size() - at_ < bytes) {
      throw Error(ErrorCode::kCorrupt, "wire: {} bytes left, {} needed", in_.size() - at_, bytes);
    }
  }

  ConstBytes in_;
  std::size_t at_ = 0;
};

}  // namespace treadle
