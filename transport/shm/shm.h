// Shared memory between processes of one host: memfd segments passed over an abstract Unix socket.
//
// The control lane is the socket itself; the data lane is a pair of rings (transport/ring.h) in a
// memfd that the caller makes, and its socket only tells when the peer is gone. How they begin is
// in shm/pipes.h. Only processes of one user, network namespace and boot reach each other
// (this_host_id). Nothing lies in /dev/shm and no name outlives the processes. Loop only.
#pragma once
#include <memory>

#include "transport/shm/segment.h"
#include "transport/transport.h"

namespace treadle {

std::unique_ptr<Transport> shm_transport(const TransportEnvironment& environment,
                                         std::shared_ptr<SegmentTable> segments);

// Ranks of one process that are made from the same row share one mapping of each segment.
TransportRow shm_row();

}  // namespace treadle
