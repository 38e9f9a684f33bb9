// Any bytes from the store decode to an answer or a roster that decodes to itself again, or throw
// Error.
#include <cstdlib>

#include "core/error.h"
#include "transport/bootstrap.h"

namespace {

treadle::ConstBytes bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto info = treadle::decode_peer_info(bytes);
    if (treadle::decode_peer_info(bytes_of(treadle::encode(info))) != info) std::abort();
  } catch (const treadle::Error&) {
  }
  try {
    constexpr int kRanks = 2;
    const auto roster = treadle::decode_roster(bytes, kRanks);
    if (roster.peers.size() != kRanks) std::abort();
    if (treadle::decode_roster(bytes_of(treadle::encode(roster)), kRanks) != roster) std::abort();
  } catch (const treadle::Error&) {
  }
  return 0;
}
