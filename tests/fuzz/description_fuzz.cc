// Any bytes decode to a description that encodes to the same bytes again, or throw Error.
#include <algorithm>
#include <cstdlib>

#include "collectives/description.h"
#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto description = treadle::decode_description(bytes);
    if (description.text().empty() || description.fingerprint() == 0) std::abort();
    const auto again = treadle::encode(description);
    if (!std::ranges::equal(again, bytes.first(again.size()))) std::abort();
  } catch (const treadle::Error&) {
  }
  return 0;
}
