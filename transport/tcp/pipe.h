// One TCP connection as a Pipe: dialled (tries addresses in turn) or accepted. Private to the tcp
// transport.
#pragma once
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "transport/pipe.h"
#include "transport/tcp/tcp.h"

namespace treadle {

struct Endpoint {
  NetworkAddress address;
  std::uint16_t port = 0;
};
std::string to_text(const Endpoint& endpoint);
socklen_t fill(sockaddr_storage& out, const Endpoint& endpoint);

class TcpPipe final : public Pipe {
 public:
  TcpPipe(Engine& engine, std::vector<Endpoint> candidates);   // dials
  TcpPipe(Engine& engine, int accepted_fd, std::string peer);  // takes the descriptor
  ~TcpPipe() override;

  void start_on_loop(Events& events) override;
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override;
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override;
  std::string peer_text() const override { return "tcp " + peer_; }

 private:
  void dial_next();
  void dial(const Endpoint& endpoint);
  void on_events(std::uint32_t ready);
  void failed(const std::string& reason);
  void drop_socket();

  Engine& engine_;
  std::vector<Endpoint> candidates_;
  std::size_t next_ = 0;
  int fd_ = -1;
  bool connected_ = false;
  bool wants_write_ = false;
  std::string peer_;
  std::string tried_;
  Events* events_ = nullptr;
  std::uint64_t timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

void set_no_delay(int fd);

}  // namespace treadle
