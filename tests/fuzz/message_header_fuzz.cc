// Any bytes decode to a header that encodes to the same bytes again, or throw Error.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/error.h"
#include "transport/message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    std::array<std::byte, treadle::MessageHeader::kEncodedBytes> again{};
    treadle::encode(treadle::decode_message_header(bytes), again);
    if (!std::ranges::equal(again, bytes.first(again.size()))) std::abort();
  } catch (const treadle::Error&) {
  }
  return 0;
}
