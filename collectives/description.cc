#include "collectives/description.h"

#include <bit>
#include <span>

#include "core/error.h"
#include "core/wire.h"

namespace treadle {
namespace {

constexpr std::array<std::string_view, kLastCall + 1> kCallNames = {
    "all_reduce", "broadcast", "all_gather", "reduce_scatter", "reduce",
    "gather",     "scatter",   "all_to_all", "barrier",        "send/recv"};

bool reduces(Call call) {
  return call == Call::kAllReduce || call == Call::kReduceScatter || call == Call::kReduce;
}

}  // namespace

std::array<std::byte, Description::kEncodedBytes> encode(const Description& d) {
  std::array<std::byte, Description::kEncodedBytes> out{};
  WireWriter w(out);
  w.put(d.call);
  w.put(d.dtype);
  w.put(d.op);
  w.put(std::uint8_t{0});
  w.put(d.root);
  w.put(d.elems);
  w.put(d.override_hash);
  return out;
}

Description decode_description(ConstBytes in) {
  WireReader r(in);
  const auto call = r.get<std::uint8_t>();
  const auto dtype = r.get<std::uint8_t>();
  const auto op = r.get<std::uint8_t>();
  const auto reserved = r.get<std::uint8_t>();
  if (call > kLastCall || dtype >= kDTypes || op >= kReduceOps || reserved != 0) {
    throw Error(ErrorCode::kCorrupt, "description: call {}, dtype {}, operator {}, reserved {}",
                call, dtype, op, reserved);
  }
  Description d;
  d.call = static_cast<Call>(call);
  d.dtype = static_cast<DType>(dtype);
  d.op = static_cast<ReduceOp>(op);
  d.root = r.get<std::int32_t>();
  d.elems = r.get<std::uint64_t>();
  d.override_hash = r.get<std::uint64_t>();
  return d;
}

std::array<std::uint64_t, 3> header_words(const Description& description) {
  return std::bit_cast<std::array<std::uint64_t, 3>>(encode(description));
}

Description description_of(const MessageHeader& header) {
  return decode_description(std::as_bytes(std::span(header.description)));
}

std::uint64_t Description::fingerprint() const {
  std::uint64_t hash = 0x9E3779B97F4A7C15ULL;
  const auto mix = [&hash](std::uint64_t value) {  // splitmix64's finaliser
    hash ^= value + 0x9E3779B97F4A7C15ULL + (hash << 6) + (hash >> 2);
    hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9ULL;
    hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBULL;
    hash ^= hash >> 31;
  };
  mix(static_cast<std::uint64_t>(call) | static_cast<std::uint64_t>(dtype) << 8 |
      static_cast<std::uint64_t>(op) << 16 |
      static_cast<std::uint64_t>(static_cast<std::uint32_t>(root)) << 32);
  mix(elems);
  mix(override_hash);
  return hash == 0 ? 1 : hash;
}

std::string Description::text() const {
  if (call == Call::kBarrier) return "barrier";
  std::string out = fmt::format("{} of {} x {}", kCallNames.at(static_cast<std::size_t>(call)),
                                elems, name_of(dtype));
  if (reduces(call)) out += fmt::format(", {}", name_of(op));
  if (root >= 0) out += fmt::format(", root {}", root);
  if (override_hash != 0) out += fmt::format(", override {:#x}", override_hash);
  return out;
}

}  // namespace treadle
