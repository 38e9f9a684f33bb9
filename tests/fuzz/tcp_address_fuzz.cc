// Any bytes decode to an address that decodes to itself again, or throw Error.
#include <cstdlib>

#include "core/error.h"
#include "transport/tcp/tcp.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto address = treadle::decode_tcp_address({reinterpret_cast<const char*>(data), size});
    for (const auto& one : address.addresses) treadle::to_text(one);
    if (treadle::decode_tcp_address(treadle::encode(address)) != address) std::abort();
  } catch (const treadle::Error&) {
  }
  return 0;
}
