// Connections inside one process, for tests and for several ranks as threads.
//
// Ranks find each other in a MemoryHub that they share. Segments are passed as the same mapping, so
// that thread checkers see the protocols of shared memory. Every byte is copied twice, through a
// ring.
#pragma once
#include <memory>

#include "transport/transport.h"

namespace treadle {

class MemoryHub;
std::shared_ptr<MemoryHub> memory_hub();

std::unique_ptr<Transport> memory_transport(const TransportEnvironment& environment,
                                            std::shared_ptr<MemoryHub> hub);
TransportRow memory_row(std::shared_ptr<MemoryHub> hub);

}  // namespace treadle
