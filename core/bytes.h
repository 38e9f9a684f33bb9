// Views of raw memory, and the two ways of getting one.
#pragma once
#include <cstddef>
#include <span>

namespace treadle {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

}  // namespace treadle
