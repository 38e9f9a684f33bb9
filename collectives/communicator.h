// The public calls: a Context per process (or per rank, in tests), Communicators made from it, and
// the Work that every call returns.
//
// Creating a Communicator opens no connection and allocates no staging; its first operation does.
// Ranks call the same collectives in the same order on one communicator. Buffers must stay valid
// and unchanged until the Work is done; input and output of a collective may be the same memory
// where it says so.
//
// Errors: a bad argument throws std::invalid_argument at the call. Failures of the world are Errors
// from Work::wait; after the first one the communicator is broken and every later call on it throws
// that error. Threads: any, unless a function says otherwise. In a forked child every call throws.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/dtype.h"
#include "core/error.h"
#include "transport/store.h"
#include "transport/transport.h"

namespace treadle {

class Operation;
class CommunicatorState;
class ContextState;

// A handle to one operation; copies share it. Dropping it does not cancel the operation.
class Work {
 public:
  Work() = default;
  explicit Work(std::shared_ptr<Operation> operation) : operation_(std::move(operation)) {}

  bool valid() const { return operation_ != nullptr; }
  bool done() const;
  // Returns when the operation is complete; throws its Error. Drives progress meanwhile.
  void wait() const;
  // The same, but gives up after `timeout`: throws Error(kTimeout) and leaves the operation
  // running, which still owns its buffers.
  void wait_for(milliseconds timeout) const;
  std::optional<Error> error() const;  // of a done operation
  // Runs `callback` once when the operation is done (null: success), on a thread that may block and
  // may call Treadle. At most one callback per operation; set it before anybody waits elsewhere.
  void on_done(std::function<void(const Error*)> callback) const;

  std::uint64_t sequence() const;
  milliseconds timeout() const;
  std::chrono::nanoseconds duration() const;  // submission to completion; 0 while pending
  int source_rank() const;                    // recv: rank in the communicator it came from
  std::string description() const;            // "all_reduce #7, 1024 x f32, sum"

 private:
  std::shared_ptr<Operation> operation_;
};

// Every member of an options struct has an initialiser, so that a designated one may leave it out.
struct CallOptions {
  std::optional<milliseconds> timeout = {};  // from submission; default: the communicator's
  int priority = kNormal;                    // smaller is more urgent
  double premul_factor = 1.0;                // ReduceOp::kPremulSum
  std::string algorithm = {};                // override; must be the same on all ranks
  bool blocking = false;  // the caller waits at once: run it in the calling thread
};

struct CommunicatorOptions {
  std::string name = {};        // ranks of one communicator use the same name
  std::vector<int> ranks = {};  // ranks of the context, in communicator order; empty: all
  std::uint64_t generation = 0;
  std::optional<milliseconds> timeout = {};  // default: config.timeout
};

class Communicator {
 public:
  explicit Communicator(std::shared_ptr<CommunicatorState> state);
  ~Communicator();  // as shutdown(); not while a call is running
  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;

  int rank() const;
  int size() const;
  const std::string& name() const;

  // in and out: equal sizes, a multiple of size_of(dtype); may be the same memory.
  Work all_reduce(ConstBytes in, Bytes out, DType dtype, ReduceOp op, const CallOptions& = {});
  Work broadcast(Bytes buffer, DType dtype, int root, const CallOptions& = {});
  // out: size() blocks of in's size, in rank order; in may be the rank's block of out.
  Work all_gather(ConstBytes in, Bytes out, DType dtype, const CallOptions& = {});
  // in: size() blocks of out's size; out may be the rank's block of in.
  Work reduce_scatter(ConstBytes in, Bytes out, DType dtype, ReduceOp op, const CallOptions& = {});
  // out is written on root only and may be empty elsewhere; in may be out on root.
  Work reduce(ConstBytes in, Bytes out, DType dtype, ReduceOp op, int root,
              const CallOptions& = {});
  Work gather(ConstBytes in, Bytes out, DType dtype, int root,
              const CallOptions& = {});  // out: root only
  Work scatter(ConstBytes in, Bytes out, DType dtype, int root,
               const CallOptions& = {});  // in: root only
  // size() blocks each; in and out must not overlap.
  Work all_to_all(ConstBytes in, Bytes out, DType dtype, const CallOptions& = {});
  Work barrier(const CallOptions& = {});
  // Messages of one (source, tag) match in the order of the calls. Size and dtype must be equal on
  // both sides.
  Work send(ConstBytes data, DType dtype, int to, std::int64_t tag, const CallOptions& = {});
  Work recv(Bytes data, DType dtype, int from, std::int64_t tag, const CallOptions& = {});

  void set_timeout(milliseconds timeout);  // of later operations
  milliseconds timeout() const;
  // Fails every pending and later operation here and on all members. Never blocks long; idempotent.
  void abort(std::string_view reason = "abort() was called");
  // Orderly end: refuses further calls, waits for pending operations until their deadlines, then
  // says goodbye. Any thread, also while others call. Never throws.
  void shutdown();
  std::optional<Error> error() const;  // why it is broken
  std::uint64_t operations_submitted() const;

 private:
  std::shared_ptr<CommunicatorState> state_;
};

struct ContextOptions {
  int rank = 0;
  int ranks = 1;
  std::shared_ptr<Store> store = {};
  Config config = {};
  std::vector<TransportRow> transports = {};  // empty: standard_transports()
};

// One process's (or, in tests, one rank's) engine, links and bootstrap.
class Context {
 public:
  // Starts the engine's thread, which publishes this rank's address and collects the others'; waits
  // for nobody. Throws std::invalid_argument for impossible options.
  static std::shared_ptr<Context> create(ContextOptions options);
  ~Context();

  int rank() const;
  int ranks() const;
  const Config& config() const;
  Communicator communicator(const CommunicatorOptions& options = {});
  // What each link uses, for treadle-info and tests: "rank 1: shm".
  std::vector<std::string> links() const;

  explicit Context(std::shared_ptr<ContextState> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<ContextState> state_;
};

}  // namespace treadle
