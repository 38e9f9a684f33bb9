// Shared memory between processes of one host: memfd segments passed over an abstract Unix socket.
//
// The control lane is the socket itself; the data lane is a pair of rings (transport/ring.h) in a
// memfd that the caller makes, and its socket only tells when the peer is gone. Both begin with a
// preamble of one byte in each direction that carries descriptors: the sender's doorbell, and from
// the caller of a data lane the memfd. Nothing lies in /dev/shm and no name outlives the processes.
// Loop only.
#pragma once
#include <memory>

#include "transport/transport.h"

namespace treadle {

std::unique_ptr<Transport> shm_transport(const TransportEnvironment& environment);

}  // namespace treadle
