// Messages over a byte stream: see pipe.h for what it promises.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "transport/pipe.h"

namespace treadle {

class StreamConnection final : public Connection, private Pipe::Events {
 public:
  // `events` may come later, by attach(), but before anything is read: an accepted connection is
  // handed to its owner first.
  StreamConnection(std::unique_ptr<Pipe> pipe, Engine& engine, const Config& config,
                   ConnectionEvents* events);
  ~StreamConnection() override;
  void attach(ConnectionEvents& events);  // starts the pipe

  void post_on_loop(Outgoing message) override;
  void cancel_on_loop(std::uint64_t communicator) override;
  bool flushed_on_loop() const override;
  bool can_share() const override { return pipe_->can_share(); }
  std::shared_ptr<Doorbell> peer_doorbell() const override { return pipe_->peer_doorbell(); }
  std::string peer_text() const override { return pipe_->peer_text(); }

 private:
  struct Segment {
    std::array<std::byte, MessageHeader::kEncodedBytes> head;
    ConstBytes body;
    std::vector<std::byte> owned;  // the body of a cancelled message that is partly written
    std::uint64_t communicator = 0;
    std::size_t written = 0;
    std::function<void()> done;  // of the message, on its last segment
    std::shared_ptr<SharedSegment> segment;
  };
  // A message that is written and whose sender has not been told yet.
  struct Finished {
    std::uint64_t communicator;
    std::function<void()> done;
  };

  bool on_readable_on_loop() override;
  bool on_writable_on_loop() override;
  void on_broken_on_loop(const Error& error) override;

  void stage();
  bool flush();
  void advance(std::size_t bytes);
  void report_finished();
  bool read_some();
  bool read_payload();
  bool take_header();
  void end_of_payload();
  void close(const Error& error);
  void close_later(const Error& error);

  std::unique_ptr<Pipe> pipe_;
  Engine& engine_;
  const std::size_t segment_bytes_;
  ConnectionEvents* events_;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::map<int, std::deque<Outgoing>>
      queue_;                   // by priority; header.offset_bytes says how much is staged
  std::deque<Segment> staged_;  // in the order of the wire
  std::deque<Finished> finished_;

  std::vector<std::byte> buffer_;  // bytes [begin_, end_) have been read and not used
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::optional<MessageHeader> header_;  // of the payload being read
  std::optional<Bytes> place_;           // nothing: it is dropped
  std::size_t got_ = 0;
  bool quiet_ = false;  // its communicator has cancelled it
};

}  // namespace treadle
