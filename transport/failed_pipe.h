// A Pipe that could not be made: reports why from the loop, never from inside connect_on_loop.
#pragma once
#include <memory>
#include <string>

#include "transport/pipe.h"

namespace treadle {

class FailedPipe final : public Pipe {
 public:
  FailedPipe(Engine& engine, const Error& error, std::string peer)
      : engine_(engine), error_(error), peer_(std::move(peer)) {}
  ~FailedPipe() override { *alive_ = false; }

  void start_on_loop(Events& events) override {
    engine_.post([alive = alive_, &events, error = error_] {
      if (*alive) events.on_broken_on_loop(error);
    });
  }
  std::size_t try_write_on_loop(std::span<const iovec>) override { return 0; }
  std::size_t try_read_on_loop(std::span<const iovec>) override { return 0; }
  std::string peer_text() const override { return peer_; }

 private:
  Engine& engine_;
  const Error error_;
  const std::string peer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace treadle
