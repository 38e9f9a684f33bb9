// Send and receive: messages of one (source, tag) match in the order of the calls, by number. Loop
// only.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/flow.h"
#include "collectives/operation.h"

namespace treadle {

struct PointToPointCall {
  bool is_send = false;
  int peer = -1;
  std::int64_t tag = 0;
  ConstBytes data = {};  // to send
  Bytes place = {};      // to receive into
};

class PointToPoint {
 public:
  explicit PointToPoint(Flow& flow) : flow_(flow) {}

  // From here on the operation is among the pending ones, so that whatever goes wrong ends it.
  void add(const std::shared_ptr<Operation>& operation, int peer);
  // Of an operation that was added. `finished` is called when it is complete, possibly at once.
  void start(const std::shared_ptr<Operation>& operation, const PointToPointCall& call,
             int priority, std::function<void(const std::shared_ptr<Operation>&)> finished);

  std::optional<Bytes> on_header(int peer, const MessageHeader& header);
  void on_payload(int peer, const MessageHeader& header);
  void on_announce(int peer, const MessageHeader& header);

  std::vector<std::shared_ptr<Operation>> pending() const;
  bool waits_for(int peer) const;
  void clear();

 private:
  struct Posted {
    std::shared_ptr<Operation> operation;
    Bytes place;
    std::uint64_t got_bytes = 0;
    std::function<void(const std::shared_ptr<Operation>&)> finished;
  };
  struct Stashed {
    MessageHeader header;
    std::vector<std::byte> payload;
    bool complete = false;
  };

  struct Running {
    int peer;
    std::shared_ptr<Operation> operation;
  };

  void match(const MessageName& name, Posted posted);
  void finish(const Posted& recv);
  bool erase(const std::shared_ptr<Operation>& operation);

  Flow& flow_;
  std::map<std::pair<int, std::int64_t>, std::uint64_t> next_send_;
  std::map<std::pair<int, std::int64_t>, std::uint64_t> next_recv_;
  std::map<MessageName, Posted> posted_;
  std::map<MessageName, Stashed> stashed_;
  std::map<int, std::uint64_t> unmatched_bytes_;
  std::vector<Running> running_;
};

}  // namespace treadle
