// Flow control of one communicator (contract 4): which message may leave with its payload, and how
// much unmatched payload may lie here.
//
// A small message (at most half of eager_bytes) leaves at once while the receiver's unmatched
// payload from this rank stays within eager_bytes. Any other message waits here for a grant, which
// the receiver gives when the matching call is there: on its own for large messages, in answer to
// an announcement for the rest. Loop only.
#pragma once
#include <compare>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "transport/mesh.h"
#include "transport/message.h"

namespace treadle {

// The lane number in grants and announcements of point-to-point messages.
inline constexpr std::uint32_t kPointToPointLane = 0xFFFFFFFF;

// A message's name, seen from one side.
struct MessageName {
  int peer = 0;
  std::uint64_t sequence = 0;
  std::uint32_t lane = 0;
  std::uint32_t step = 0;
  std::int64_t tag = 0;
  auto operator<=>(const MessageName&) const = default;
};
MessageName name_in(int peer, const MessageHeader& header);

class Flow {
 public:
  // `mesh_ranks[i]` is the mesh rank of the communicator's rank i.
  Flow(Mesh& mesh, std::uint64_t communicator, std::vector<int> mesh_ranks,
       std::uint64_t eager_bytes);

  bool is_small(std::uint64_t bytes) const { return bytes <= eager_bytes_ / 2; }

  // Sends now or when granted. `header`: kind kData or kPointToPoint with its name.
  void send(int peer, MessageHeader header, ConstBytes payload, int priority,
            std::function<void()> done);
  void send_control(int peer, MessageHeader header, std::vector<std::byte> payload = {});

  // ---- as receiver ----
  // Lets the peer send every message of (sequence, lane) up to and including round `step`.
  void grant_rounds(int peer, std::uint64_t sequence, std::uint32_t lane, std::uint32_t step);
  // Lets the peer send this one point-to-point message.
  void grant_message(int peer, std::int64_t tag, std::uint64_t sequence);
  // The matching call for this message is there; grants it if it has been announced.
  void matched(const MessageName& name);
  // A payload was matched: gives back the credit of an eager one.
  void consumed(int peer, const MessageHeader& header);
  // Throws kCorrupt if the peer has sent more unmatched payload than it may.
  void check_unmatched(int peer, std::uint64_t unmatched_bytes, const MessageHeader& header) const;

  // ---- incoming control ----
  void on_grant(int peer, const MessageHeader& header);
  void on_announce(int peer, const MessageHeader& header);
  void on_any_header(int peer, const MessageHeader& header);  // piggybacked credit

  // The operation is over here: forgets what is kept for its name.
  void forget(std::uint64_t sequence);
  void forget_lane(std::uint64_t sequence, std::uint32_t lane);
  void clear();  // forgets everything that waits

 private:
  struct Waiting {
    MessageHeader header;
    ConstBytes payload;
    int priority;
    std::function<void()> done;
  };
  struct PeerState {
    std::uint64_t eager_sent = 0;     // bytes, ever
    std::uint64_t eager_matched = 0;  // as the peer reports
    std::uint64_t consumed = 0;       // of the peer's eager bytes, ever
    std::uint64_t reported = 0;       // how much of that it knows
    std::map<MessageName, Waiting> waiting;
    std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint32_t>
        granted_rounds;               // (sequence, lane)
    std::set<MessageName> granted;    // this rank may send
    std::set<MessageName> announced;  // the peer waits
    std::set<MessageName> gave;       // small messages this rank has granted
  };

  PeerState& state_of(int peer) { return peers_.at(static_cast<std::size_t>(peer)); }
  bool is_granted(PeerState& peer, const MessageName& name, const MessageHeader& header);
  bool may_send(PeerState& peer, const MessageName& name, const MessageHeader& header);
  void post(int peer, MessageHeader header, ConstBytes payload, int priority,
            std::function<void()> done);
  void release(int peer);

  Mesh& mesh_;
  const std::uint64_t communicator_;
  const std::vector<int> mesh_ranks_;
  const std::uint64_t eager_bytes_;
  std::vector<PeerState> peers_;
};

}  // namespace treadle
