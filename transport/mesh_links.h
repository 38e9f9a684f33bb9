// The two ends of a lane as the mesh sees them. Private to the mesh.
#pragma once
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/mesh.h"

namespace treadle {

inline constexpr std::size_t kLanes = 2;
inline constexpr std::size_t kMaxHelloBytes = 4096;

// A lane that this rank dialled. Messages wait here until the peer has accepted the hello.
class OutgoingLink final : public ConnectionEvents {
 public:
  OutgoingLink(Mesh& mesh, int rank, Lane lane) : mesh_(mesh), rank_(rank), lane_(lane) {}

  std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override;
  void on_payload_on_loop(const MessageHeader& header, std::shared_ptr<SharedSegment>) override;
  void on_closed_on_loop(const Error& error) override;

  std::unique_ptr<Connection> connection;
  bool ready = false;

 private:
  Mesh& mesh_;
  const int rank_;
  const Lane lane_;
  std::vector<std::byte> reply_;
};

// A lane that a peer dialled; a stranger until its hello has been accepted.
class IncomingLink final : public ConnectionEvents {
 public:
  explicit IncomingLink(Mesh& mesh) : mesh_(mesh) {}

  std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override;
  void on_payload_on_loop(const MessageHeader& header,
                          std::shared_ptr<SharedSegment> segment) override;
  void on_closed_on_loop(const Error& error) override;

  std::unique_ptr<Connection> connection;
  const Deadline accepted = Clock::now();
  int rank = -1;
  Lane lane = Lane::kControl;

 private:
  void on_hello_on_loop();
  std::string refusal_of(ConstBytes hello);

  Mesh& mesh_;
  bool to_sink_ = false;            // where the current payload goes
  std::vector<std::byte> landing_;  // a hello, or a message nobody has claimed
};

struct Mesh::Peer {
  struct Out {
    std::unique_ptr<OutgoingLink> link;
    std::deque<Outgoing> waiting;
    std::optional<Deadline> wanted_since;  // first dial
    std::optional<Deadline> ready_since;
    std::string last_reason;
  };

  std::array<Out, kLanes> out;
  std::array<std::unique_ptr<IncomingLink>, kLanes> in;
  // Of control messages exactly; of data, for which reading the clock would cost too much, the tick
  // before, so that a loss is never noticed late.
  Deadline last_heard{};
  bool data_heard = false;  // since the last tick
  bool departed = false;    // said goodbye
  std::optional<Error> lost;
  std::size_t row = 0;  // of the table of transports
};

}  // namespace treadle
