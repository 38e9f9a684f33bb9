#include "transport/stores/tcp_store_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxClients = 16384;
constexpr std::size_t kMaxHeldBytes = 256 << 20;    // keys and values
constexpr std::size_t kMaxPartialBytes = 64 << 20;  // requests that are not complete yet
constexpr milliseconds kLongestPoll{1000};
constexpr milliseconds kAcceptPause{100};  // when descriptors have run out

int make_eventfd() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw system_error(errno, "creating an eventfd");
  return fd;
}

}  // namespace

TcpStoreServer::Client::~Client() { ::close(fd); }

TcpStoreServer::TcpStoreServer(std::vector<int> listeners)
    : listeners_(std::move(listeners)), wake_(make_eventfd()), thread_([this] { thread_main(); }) {}

TcpStoreServer::~TcpStoreServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.ring();
  thread_.join();
  for (const int fd : listeners_) ::close(fd);
}

// ---- the table ----

bool TcpStoreServer::store(std::string_view key, std::string_view value) {
  const std::lock_guard lock(mutex_);
  const auto found = values_.find(key);
  const std::size_t before = found == values_.end() ? 0 : key.size() + found->second.size();
  const std::size_t after = held_bytes_ - before + key.size() + value.size();
  if (after > kMaxHeldBytes) return false;
  held_bytes_ = after;
  values_.insert_or_assign(std::string(key), std::string(value));
  changed_.notify_all();
  return true;
}

void TcpStoreServer::set(std::string_view key, std::string_view value) {
  if (!store(key, value)) {
    throw Error(ErrorCode::kSystem, "tcp store: setting {} ({} bytes): it holds its {} bytes", key,
                value.size(), kMaxHeldBytes);
  }
  wake_.ring();
}

std::optional<std::string> TcpStoreServer::get(std::string_view key, Deadline by) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, by, [&] { return values_.contains(key); });
  const auto found = values_.find(key);
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

// ---- the thread ----

void TcpStoreServer::thread_main() {
  std::vector<pollfd> watched;
  while (true) {
    watched.assign(1, {wake_.fd(), POLLIN, 0});
    for (const int fd : listeners_) {
      watched.push_back({fd, static_cast<short>(accept_again_ ? 0 : POLLIN), 0});
    }
    for (const Client& client : clients_) {
      // The end of a client that waits shows as POLLRDHUP.
      const int wanted = !client.reply.empty() ? POLLOUT : client.busy() ? POLLRDHUP : POLLIN;
      watched.push_back({client.fd, static_cast<short>(wanted), 0});
    }
    ::poll(watched.data(), watched.size(), poll_timeout());
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) break;
    }
    std::uint64_t rings = 0;
    [[maybe_unused]] const auto drained = ::read(wake_.fd(), &rings, sizeof rings);
    std::size_t at = 1 + listeners_.size();
    for (auto it = clients_.begin(); it != clients_.end(); ++at) {
      it = serve(*it, watched[at].revents) ? std::next(it) : clients_.erase(it);
    }
    // A value that was set just now may be what an earlier client of this round waits for.
    for (Client& client : clients_) answer_waiting(client);
    if (accept_again_ && Clock::now() >= *accept_again_) accept_again_.reset();
    for (const int fd : listeners_) accept_all(fd);
  }
  clients_.clear();
}

int TcpStoreServer::poll_timeout() const {
  auto until = Clock::now() + kLongestPoll;
  for (const Client& client : clients_) {
    if (!client.reply.empty()) continue;
    if (client.waiting_for) until = std::min(until, client.until);
  }
  if (accept_again_) until = std::min(until, *accept_again_);
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

void TcpStoreServer::accept_all(int listener) {
  while (!accept_again_) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0 && clients_.size() >= kMaxClients) {
      ::close(fd);
      continue;
    }
    if (fd >= 0) {
      clients_.emplace_back(fd);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      accept_again_ = Clock::now() + kAcceptPause;
    }
  }
}

bool TcpStoreServer::serve(Client& client, short ready) {
  if ((ready & (POLLERR | POLLNVAL)) != 0) return false;
  if (client.waiting_for && (ready & (POLLRDHUP | POLLHUP)) != 0) return false;
  try {
    if ((ready & (POLLIN | POLLHUP)) != 0 && !client.busy()) receive(client);
    while (true) {
      if (!client.busy()) {
        const auto body = client.requests.next();
        if (!body) return true;
        answer(client, decode_store_request(*body));
      }
      answer_waiting(client);
      if (client.reply.empty() || !send_reply(client)) return true;
    }
  } catch (const Error&) {
    return false;  // it went away or sent nonsense
  }
}

// True if all of it has been sent.
bool TcpStoreServer::send_reply(Client& client) {
  while (client.sent_bytes < client.reply.size()) {
    const auto sent = ::send(client.fd, client.reply.data() + client.sent_bytes,
                             client.reply.size() - client.sent_bytes, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return false;
      throw system_error(errno, "tcp store: answering a client");
    }
    client.sent_bytes += static_cast<std::size_t>(sent);
  }
  client.reply.clear();
  client.sent_bytes = 0;
  return true;
}

void TcpStoreServer::receive(Client& client) {
  std::array<std::byte, 64 << 10> buffer;
  const auto got = ::recv(client.fd, buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  if (got <= 0) throw Error(ErrorCode::kPeerLost, "tcp store: a client has gone");
  client.requests.append(ConstBytes(buffer).first(static_cast<std::size_t>(got)));
  std::size_t partial = 0;
  for (const Client& each : clients_) partial += each.requests.held_bytes();
  if (partial > kMaxPartialBytes) {
    throw Error(ErrorCode::kCorrupt, "tcp store: {} bytes of incomplete requests", partial);
  }
}

void TcpStoreServer::answer(Client& client, const StoreRequest& request) {
  if (request.action == StoreAction::kSet) {
    const bool kept = store(request.key, request.value);
    client.reply =
        store_frame(kept ? StoreReply{}
                         : StoreReply{StoreStatus::kRefused,
                                      fmt::format("the store holds its {} bytes", kMaxHeldBytes)});
    return;
  }
  client.waiting_for = request.key;
  client.until = Clock::now() + milliseconds(request.wait_ms);
}

void TcpStoreServer::answer_waiting(Client& client) {
  if (!client.waiting_for) return;
  const auto value = get(*client.waiting_for, Deadline{});
  if (!value && Clock::now() < client.until) return;
  client.reply = store_frame(value ? StoreReply{StoreStatus::kDone, *value}
                                   : StoreReply{StoreStatus::kAbsent, {}});
  client.waiting_for.reset();
}

}  // namespace treadle
