// Any bytes that reach either end of a tcp store decode or throw Error.
#include "core/error.h"
#include "transport/stores/tcp_store_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto only_errors = [](auto&& body) {
    try {
      body();
    } catch (const treadle::Error&) {
    }
  };
  only_errors([&] { treadle::decode_store_request(bytes); });
  only_errors([&] { treadle::decode_store_reply(bytes); });
  only_errors([&] {
    treadle::StoreFrameReader reader;
    reader.append(bytes);
    while (const auto body = reader.next()) treadle::decode_store_request(*body);
  });
  return 0;
}
