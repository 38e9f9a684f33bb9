// The server of a tcp store: a table of keys and one thread that answers clients. Private to the
// tcp store.
//
// Memory is bounded: so many clients, so many bytes of keys and values, and per client about one
// request. A client that sends nonsense is dropped; nobody else notices. Any thread.
#pragma once
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "transport/engine.h"
#include "transport/stores/tcp_store_protocol.h"

namespace treadle {

class TcpStoreServer {
 public:
  explicit TcpStoreServer(std::vector<int> listeners);  // takes the descriptors
  ~TcpStoreServer();                                    // clients see the end of their connections
  TcpStoreServer(const TcpStoreServer&) = delete;
  TcpStoreServer& operator=(const TcpStoreServer&) = delete;

  // For the process that serves. Throws Error(kSystem) if the store is full.
  void set(std::string_view key, std::string_view value);
  std::optional<std::string> get(std::string_view key, Deadline by);

 private:
  struct Client {
    explicit Client(int owned_fd) : fd(owned_fd) {}
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    bool busy() const { return waiting_for.has_value() || !reply.empty(); }

    int fd;
    StoreFrameReader requests;
    std::vector<std::byte> reply;
    std::size_t sent_bytes = 0;
    std::optional<std::string> waiting_for;  // a key
    Deadline until{};
  };

  void thread_main();
  int poll_timeout() const;
  void accept_all(int listener);
  bool serve(Client& client, short ready);  // false: it is done with
  void receive(Client& client);
  bool send_reply(Client& client);
  void answer(Client& client, const StoreRequest& request);
  void answer_waiting(Client& client);
  bool store(std::string_view key, std::string_view value);

  const std::vector<int> listeners_;
  Doorbell wake_;

  std::mutex mutex_;  // guards the next four
  std::condition_variable changed_;
  std::map<std::string, std::string, std::less<>> values_;
  std::size_t held_bytes_ = 0;
  bool stopping_ = false;

  std::list<Client> clients_;  // of the thread
  std::optional<Deadline> accept_again_;
  std::thread thread_;
};

}  // namespace treadle
