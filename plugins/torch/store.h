// A c10d store as the meeting place of a Context.
#pragma once
#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "transport/store.h"

namespace treadle {

// Uses a clone of `store` where it can make one: c10d stores are one blocking client each, and the
// user's own get() may hold the original for minutes. Keeps the original too, because rank 0's
// object may be the server.
std::shared_ptr<Store> c10d_store(c10::intrusive_ptr<c10d::Store> store);

}  // namespace treadle
