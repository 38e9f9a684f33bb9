// Private to the engine.
#pragma once
#include <cstdint>

namespace treadle {

// epoll_ctl(2) with the descriptor as the event's data. Throws Error(kSystem).
void control_epoll(int epoll_fd, int operation, int fd, std::uint32_t events);

}  // namespace treadle
