// How ranks learn each other's addresses: one key per rank, one merged answer from rank 0.
//
// Names in stores repeat (a group destroyed and made again, a partly joined earlier try), so no
// bare key is trusted. Rank 0 writes a fresh random run id under "run"; every rank answers under
// "<run>/<rank>" with a nonce; rank 0 collects all answers and publishes them under "<run>/all". A
// rank that finds its own nonce there is in; one that does not looks at "run" again, since it had
// read the id of an earlier run. O(N) store operations in total.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "transport/store.h"

namespace treadle {

// What one rank tells the others. Encoded in WireBuffer order of the fields; at most 16 KiB.
struct PeerInfo {
  std::uint64_t nonce = 0;
  std::uint64_t host_id = 0;
  // Settings that must agree and are not at their default: {name, value}.
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::pair<std::string, std::string>> addresses;  // {transport, its address}
  bool operator==(const PeerInfo&) const = default;
};

struct Roster {
  std::uint64_t run_id = 0;
  std::vector<PeerInfo> peers;  // by rank
  bool operator==(const Roster&) const = default;
};

std::string encode(const PeerInfo& info);
PeerInfo decode_peer_info(ConstBytes in);  // throws kCorrupt
std::string encode(const Roster& roster);
Roster decode_roster(ConstBytes in, int ranks);  // throws kCorrupt

// One rank's side of the exchange. run() blocks in its own thread; stop() and missing() are for
// others.
class Bootstrap {
 public:
  Bootstrap(Store& store, int rank, int ranks, PeerInfo mine);
  Roster run();  // throws Error: kAborted after stop(), kSystem from the store, kCorrupt
  void stop() { stopped_ = true; }
  // Ranks that have not answered as far as this rank knows, for error texts. Any thread.
  std::vector<int> missing() const;

 private:
  Roster collect();
  Roster join();
  void look_for_missing(const std::string& run);
  void set_missing(std::vector<int> ranks);
  void check_stopped() const;

  Store& store_;
  const int rank_;
  const int ranks_;
  const PeerInfo mine_;
  std::atomic<bool> stopped_{false};
  mutable std::mutex mutex_;
  std::vector<int> missing_;  // guarded by mutex_
};

}  // namespace treadle
