// FNV-1a: names as 64-bit numbers that are the same on all ranks. Not against malice.
#pragma once
#include <cstdint>
#include <string_view>

namespace treadle {

class Hash {
 public:
  constexpr Hash& add(std::string_view text) {
    for (const char c : text) add_byte(static_cast<unsigned char>(c));
    return *this;
  }
  // As 8 bytes, the lowest first.
  constexpr Hash& add(std::uint64_t number) {
    for (int i = 0; i < 8; ++i) add_byte(static_cast<unsigned char>(number >> (8 * i)));
    return *this;
  }
  constexpr std::uint64_t value() const { return value_; }

 private:
  constexpr void add_byte(unsigned char byte) { value_ = (value_ ^ byte) * 0x100000001b3ULL; }

  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace treadle
