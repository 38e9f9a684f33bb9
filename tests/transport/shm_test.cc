#include "transport/shm/shm.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/code_of.h"
#include "tests/transport/transport_contract.h"
#include "transport/shm/pipes.h"

namespace treadle {
namespace {

INSTANTIATE_TEST_SUITE_P(Shm, TransportContract, testing::ValuesIn(on_both_lanes("shm", shm_row)),
                         case_name);

// A descriptor that ends with its owner.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) { EXPECT_GE(fd, 0); }
  ~Fd() { ::close(fd_); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

constexpr int kAllSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int make_memfd(std::size_t bytes, int seals) {
  const int fd = ::memfd_create("treadle-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(::fcntl(fd, F_ADD_SEALS, seals), 0);
  return fd;
}

TEST(MemfdSegmentTest, IsOneMemoryWhereverItIsMapped) {
  const auto made = MemfdSegment::make(5000);
  ASSERT_EQ(made->bytes().size(), 5000u);
  const auto adopted = MemfdSegment::adopt(::dup(made->fd()));
  ASSERT_EQ(adopted->bytes().size(), 5000u);
  EXPECT_NE(adopted->bytes().data(), made->bytes().data());
  made->bytes()[4999] = std::byte{9};
  EXPECT_EQ(adopted->bytes()[4999], std::byte{9});
}

TEST(SegmentTableTest, MapsEverySegmentOnce) {
  SegmentTable table;
  const auto made = table.make(5000);
  EXPECT_EQ(table.adopt(::dup(made->fd())), made);
  const auto foreign = MemfdSegment::make(5000);
  const auto adopted = table.adopt(::dup(foreign->fd()));
  EXPECT_NE(adopted, foreign);
  EXPECT_EQ(table.adopt(::dup(foreign->fd())), adopted);
}

// Of what goes over a connection between two ranks that are made from one row.
TEST(SegmentTableTest, RanksOfOneRowShareOneMapping) {
  const auto row = shm_row();
  ContractEndpoint here(row);
  ContractEndpoint there(row);
  const auto address = there.address();
  const auto made = here.transport->make_segment(5000);
  here.engine.run_on_loop([&] {
    here.connect_on_loop(address, Lane::kControl)
        .connection->post_on_loop(
            {.header = {.kind = MessageKind::kSegment, .communicator = 1, .sequence = 1},
             .payload = {},
             .priority = kNormal,
             .done = nullptr,
             .segment = made});
  });
  ASSERT_TRUE(there.wait(
      [&] { return there.accepted(0) != nullptr && there.accepted(0)->complete_count() == 1; }));
  EXPECT_EQ(there.accepted(0)->message(1, 1).segment, made);
}

TEST(MemfdSegmentTest, CannotShrink) {
  const auto made = MemfdSegment::make(8192);
  EXPECT_NE(::ftruncate(made->fd(), 4096), 0);
}

TEST(MemfdSegmentTest, RefusesWhatCouldShrinkOrIsNoMemory) {
  EXPECT_EQ(code_of([] { MemfdSegment::adopt(make_memfd(4096, 0)); }), ErrorCode::kCorrupt);
  EXPECT_EQ(code_of([] { MemfdSegment::adopt(make_memfd(4096, F_SEAL_GROW)); }),
            ErrorCode::kCorrupt);
  EXPECT_EQ(code_of([] { MemfdSegment::adopt(make_memfd(0, kAllSeals)); }), ErrorCode::kCorrupt);
  EXPECT_EQ(code_of([] { MemfdSegment::adopt(::open("/dev/null", O_RDWR)); }), ErrorCode::kCorrupt);
}

TEST(MemfdSegmentTest, SaysHowMuchCouldNotBeHad) {
  try {
    MemfdSegment::make(std::size_t{1} << 50);
    FAIL() << "a pebibyte was reserved";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), testing::HasSubstr("1125899906842624 bytes"));
    EXPECT_THAT(error.what(), testing::HasSubstr("memory"));
  }
}

// A caller who does not keep to the protocol. The listener must go on.
class ShmHostileTest : public testing::Test {
 protected:
  void expect_alive() {
    ContractEndpoint here(shm_row());
    const auto address = there_.address();
    here.engine.run_on_loop([&] {
      ContractEnd& end = here.connect_on_loop(address, Lane::kControl);
      end.connection->post_on_loop({.header = {.kind = MessageKind::kData, .communicator = 99},
                                    .payload = {},
                                    .priority = kNormal,
                                    .done = nullptr,
                                    .segment = nullptr});
    });
    EXPECT_TRUE(there_.wait([&] {
      for (std::size_t i = 0; there_.accepted(i) != nullptr; ++i) {
        if (there_.accepted(i)->complete_count() == 1) return true;
      }
      return false;
    }));
  }
  // Sends one preamble and returns once the listener has closed the connection.
  void expect_refused(char preamble, const std::vector<int>& fds) {
    SCOPED_TRACE(testing::Message() << "preamble " << preamble << ", " << fds.size() << " fds");
    UnixSocket socket = UnixSocket::connect(there_.address());
    const std::array pieces = {iovec{&preamble, 1}};
    ASSERT_EQ(socket.write(pieces, fds), 1u);
    for (const int fd : fds) ::close(fd);
    wait_for_end(socket);
    EXPECT_EQ(there_.accepted(0), nullptr) << "it was accepted";
  }
  static void wait_for_end(UnixSocket& socket) {
    char byte = 0;
    const std::array pieces = {iovec{&byte, 1}};
    const auto by = deadline_after(kSoon);
    try {
      while (Clock::now() < by) {
        if (socket.read(pieces) == 0) std::this_thread::yield();
      }
      ADD_FAILURE() << "the connection was not closed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kPeerLost);
    }
  }
  static int bell() { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

  ContractEndpoint there_{shm_row()};
};

TEST_F(ShmHostileTest, PreamblesThatMakeNoSenseAreRefused) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_NONBLOCK | O_CLOEXEC), 0);
  const Fd reading_end(pipe[0]);
  expect_refused('x', {});
  expect_refused('c', {});
  expect_refused('c', {pipe[1]});
  expect_refused('c', {::eventfd(0, EFD_CLOEXEC)});  // would block
  expect_refused('a', {bell()});
  expect_refused('d', {bell()});
  expect_refused('d', {bell(), bell()});
  expect_refused('d', {bell(), make_memfd(4096, kAllSeals)});
  expect_refused('d', {bell(), make_memfd(kRingPairBytes, 0)});
  expect_refused('d', {bell(), make_memfd(kRingPairBytes - 1, kAllSeals)});
  expect_alive();
}

TEST_F(ShmHostileTest, SilentCallersHarmNobody) {
  std::vector<UnixSocket> silent;
  for (int i = 0; i < 50; ++i) silent.push_back(UnixSocket::connect(there_.address()));
  expect_alive();
}

TEST_F(ShmHostileTest, RingPositionsThatMakeNoSenseCloseTheLane) {
  UnixSocket socket = UnixSocket::connect(there_.address());
  const auto rings = MemfdSegment::make(kRingPairBytes);
  const int doorbell = bell();
  char preamble = 'd';
  const std::array pieces = {iovec{&preamble, 1}};
  ASSERT_EQ(socket.write(pieces, std::array{doorbell, rings->fd()}), 1u);
  ::close(doorbell);
  ASSERT_TRUE(there_.wait([&] { return there_.accepted(0) != nullptr; }));
  std::atomic_ref(reinterpret_cast<std::uint32_t*>(rings->bytes().data())[0]).store(0xdeadbeef);
  there_.engine.wake();
  ASSERT_TRUE(there_.wait([&] { return there_.accepted(0)->closed().has_value(); }));
  EXPECT_EQ(there_.accepted(0)->closed()->code(), ErrorCode::kCorrupt);
  expect_alive();
}

TEST_F(ShmHostileTest, BytesOnTheSocketOfADataLaneCloseIt) {
  UnixSocket socket = UnixSocket::connect(there_.address());
  const auto rings = MemfdSegment::make(kRingPairBytes);
  const int doorbell = bell();
  std::array bytes = {'d', '?'};
  const std::array first = {iovec{&bytes[0], 1}};
  const std::array second = {iovec{&bytes[1], 1}};
  ASSERT_EQ(socket.write(first, std::array{doorbell, rings->fd()}), 1u);
  ::close(doorbell);
  ASSERT_TRUE(there_.wait([&] { return there_.accepted(0) != nullptr; }));
  ASSERT_EQ(socket.write(second), 1u);
  ASSERT_TRUE(there_.wait([&] { return there_.accepted(0)->closed().has_value(); }));
  EXPECT_EQ(there_.accepted(0)->closed()->code(), ErrorCode::kCorrupt);
}

// A flood of descriptors beside a valid preamble ends the connection, not the process.
TEST_F(ShmHostileTest, UnaskedDescriptorsCloseTheLane) {
  UnixSocket socket = UnixSocket::connect(there_.address());
  const Fd doorbell(bell());
  char byte = 'c';
  const std::array pieces = {iovec{&byte, 1}};
  const std::array four = {doorbell.get(), doorbell.get(), doorbell.get(), doorbell.get()};
  for (int i = 0; i < 10; ++i) ASSERT_EQ(socket.write(pieces, four), 1u);
  wait_for_end(socket);
  expect_alive();
}

// The child dials, sends one message and stands still until it is killed.
[[noreturn]] void child_main(int address_pipe, Lane lane) {
  std::array<char, 256> name{};
  const auto bytes = ::read(address_pipe, name.data(), name.size());
  Config config;
  Engine engine({.slice = kSlice, .start_thread = true});
  ContractEnd end(engine);
  std::unique_ptr<Transport> transport;
  engine.run_on_loop([&] {
    transport = shm_row().make({engine, config, Log(LogLevel::kError, 1)});
    end.connection = transport->connect_on_loop(
        std::string_view(name.data(), static_cast<std::size_t>(std::max<ssize_t>(bytes, 0))), lane,
        true, end);
    end.connection->post_on_loop({.header = {.kind = MessageKind::kData, .communicator = 1},
                                  .payload = {},
                                  .priority = kNormal,
                                  .done = nullptr,
                                  .segment = nullptr});
  });
  while (true) ::pause();
}

class ShmProcessTest : public testing::TestWithParam<Lane> {};

TEST_P(ShmProcessTest, AKilledPeerIsLostAfterItsMessages) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) child_main(pipe[0], GetParam());
  {
    ContractEndpoint there(shm_row());
    const auto address = there.address();
    ASSERT_EQ(::write(pipe[1], address.data(), address.size()),
              static_cast<ssize_t>(address.size()));
    EXPECT_TRUE(there.wait(
        [&] { return there.accepted(0) != nullptr && there.accepted(0)->complete_count() == 1; }));
    ::kill(child, SIGKILL);
    EXPECT_TRUE(there.wait(
        [&] { return there.accepted(0) != nullptr && there.accepted(0)->closed().has_value(); }));
    const auto closed = there.accepted(0)->closed();
    EXPECT_TRUE(closed && closed->code() == ErrorCode::kPeerLost);
  }
  ::close(pipe[0]);
  ::close(pipe[1]);
  ::waitpid(child, nullptr, 0);
}

INSTANTIATE_TEST_SUITE_P(Lanes, ShmProcessTest, testing::Values(Lane::kControl, Lane::kData),
                         [](const auto& given) {
                           return given.param == Lane::kControl ? "control" : "data";
                         });

}  // namespace
}  // namespace treadle
