// A collective as data: who sends which chunk to whom, in which round. No bytes, dtypes, sockets or
// threads, so a plan can be printed, costed, proved by playing all ranks, simulated and reordered.
//
// A plan works on chunks of an input and an output, and on numbered scratch slots, each large
// enough for any chunk. Input and output may be the same memory. Rounds are numbered alike on all
// ranks of one operation: what is sent in round r is received in round r. In a round all sends and
// receives run at once; when all of them are complete, the reduces, copies and local steps run in
// the order listed; then comes the next round. docs/design/003-plans.md.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

// Where a step reads or writes.
struct Place {
  enum class Kind : std::uint8_t { kIn, kOut, kScratch };
  Kind kind = Kind::kIn;
  int index = 0;  // chunk of the input or output, or scratch slot
  bool operator==(const Place&) const = default;
};
inline Place in_chunk(int index) { return {Place::Kind::kIn, index}; }
inline Place out_chunk(int index) { return {Place::Kind::kOut, index}; }
inline Place scratch(int index) { return {Place::Kind::kScratch, index}; }

enum class StepKind : std::uint8_t { kSend, kRecv, kReduce, kCopy, kLocal };

// What the ranks of one host do together in shared memory (collectives/local/). All of the plan's
// ranks on the host take part, in the same round.
enum class LocalKind : std::uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kBarrier
};

struct Step {
  StepKind kind = StepKind::kSend;
  int peer = -1;                          // kSend, kRecv: rank in the communicator
  Place from = {};                        // kSend, kCopy
  Place to = {};                          // kRecv, kReduce, kCopy
  std::vector<Place> operands = {};       // kReduce: to := left fold of these, in this order
  LocalKind local = LocalKind::kBarrier;  // kLocal: over the whole input and output of the plan
};

inline Step send_step(int peer, Place from) {
  return {.kind = StepKind::kSend, .peer = peer, .from = from};
}
inline Step recv_step(int peer, Place to) {
  return {.kind = StepKind::kRecv, .peer = peer, .to = to};
}
inline Step reduce_step(Place to, std::vector<Place> operands) {
  return {.kind = StepKind::kReduce, .to = to, .operands = std::move(operands)};
}
inline Step copy_step(Place to, Place from) {
  return {.kind = StepKind::kCopy, .from = from, .to = to};
}
inline Step local_step(LocalKind kind) { return {.kind = StepKind::kLocal, .local = kind}; }

struct Round {
  std::vector<Step> steps;
};

// A part and its header together make whole packets of 64 KiB, the largest there are: over loopback
// one small packet more for the header costs as much as a whole one. docs/performance.md.
inline constexpr std::size_t kRoomForHeader = 1 << 10;

struct Plan {
  int in_chunks = 1;   // the input is cut into this many chunks, as evenly as whole elements allow
  int out_chunks = 1;  // the same for the output
  int scratch_slots = 0;
  // A large operation runs in lanes, each with at most this much of every chunk; the same on all
  // ranks.
  std::size_t lane_bytes = (256 << 10) - kRoomForHeader;
  // A message of round r + early_rounds may land in its place while this rank is still in round r.
  // Safe if that place is not in use then: nothing is still to be read from it, or what is read
  // there must have reached its reader before the message could be sent.
  int early_rounds = 0;
  std::vector<Round> rounds = {};
};

// Plan::lane_bytes where a part of every rank is received before they are folded: together they
// should still be in the caches then.
std::size_t lane_bytes_of_fan_in(int ranks);

// Every rank gets its chunk of everybody's input, into scratch slots 0 to ranks - 2, and folds the
// inputs in rank order into `folded`. Each begins with its right neighbour, so that nobody is
// flooded by all others at once.
Round exchange_and_fold(int rank, int ranks, Place folded);

// What all ranks know when a plan is made.
struct PlanInput {
  int rank = 0;
  int ranks = 1;
  int root = 0;
  std::span<const int> host_of_rank = {};  // host number of each rank; empty: each its own host
};

// How the additions of an algorithm associate (contract 2): a function of the element's offset,
// ranks and host map only.
enum class OrderClass : std::uint8_t {
  kNone,       // moves data, adds nothing
  kRankOrder,  // left fold in rank order
  kRing,       // left fold that starts at the rank after the chunk's owner
  kTree,       // recursive halves, lower ranks on the left
};

// To add an algorithm: its two files, and one row in its collective's table.
struct Algorithm {
  std::string_view name;
  std::string_view summary;  // cost: rounds, bytes sent per rank, scratch; and when it is best
  OrderClass order = OrderClass::kNone;
  bool (*accepts)(const PlanInput&) = nullptr;
  Plan (*plan)(const PlanInput&) = nullptr;
};

bool any_ranks(const PlanInput&);
bool one_host(const PlanInput&);  // all ranks share a host

// One line per round, for people: "round 0: send in[1] -> 1, recv scratch[0] <- 1; out[0] = ...".
std::string to_text(const Plan& plan);

}  // namespace treadle
