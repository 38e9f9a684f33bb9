#include "plugins/torch/backend.h"

#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/config.h"
#include "core/error.h"
#include "plugins/torch/gil.h"
#include "plugins/torch/store.h"

namespace treadle {
namespace {

// How many finished members an open coalesced group keeps before it forgets the successful ones. A
// group stays open for ever if its caller's code throws before it ends it.
constexpr std::size_t kManyMembers = 1024;

// Errors of the core become what torch's callers expect.
template <typename Body>
decltype(auto) crossing_into_torch(Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    std::rethrow_exception(to_torch(error));
  } catch (const std::invalid_argument& error) {
    C10_THROW_ERROR(Error, c10::str("treadle: ", error.what()));
  }
}

}  // namespace

std::unique_ptr<TreadleBackend::Live> TreadleBackend::make_live(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, const TreadleOptions& options,
    const Membership& membership) {
  return crossing_into_torch([&] {
    CommunicatorOptions group{.name = membership.group_name,
                              .ranks = membership.global_ranks,
                              .timeout = options.timeout};
    if (membership.parent) {
      auto context = membership.parent->live_->context;
      return std::make_unique<Live>(Live{context, context->communicator(group)});
    }
    group.ranks.clear();  // a context of the group's own: its ranks are the group's
    auto context = Context::create({.rank = rank,
                                    .ranks = size,
                                    .store = c10d_store(store),
                                    .config = config_from_environment(),
                                    .transports = {}});
    return std::make_unique<Live>(Live{context, context->communicator(group)});
  });
}

TreadleBackend::TreadleBackend(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                               c10::intrusive_ptr<TreadleOptions> options,
                               const Membership& membership)
    : c10d::Backend(rank, size),
      process_(::getpid()),
      options_(std::move(options)),
      live_(make_live(store, rank, size, *options_, membership)) {
  init();
}

TreadleBackend::~TreadleBackend() {
  if (process_ != ::getpid()) {
    // A forked child: what the parent still uses is let go of without a word.
    static_cast<void>(live_.release());
    return;
  }
  const WithoutGil guard;
  shutdown();
  coalescing_.clear();
  live_.reset();
}

Communicator& TreadleBackend::communicator() const {
  if (process_ != ::getpid()) {
    C10_THROW_ERROR(DistBackendError,
                    c10::str("treadle: process ", ::getpid(), " was forked from process ", process_,
                             ", which owns process group '", getGroupUid(),
                             "': create a group of its own here"));
  }
  if (shut_down_) {
    C10_THROW_ERROR(DistBackendError,
                    c10::str("treadle: process group '", getGroupUid(), "' was shut down (rank ",
                             rank_, " of ", size_, "): create a new one before the next call"));
  }
  return live_->communicator;
}

bool TreadleBackend::usable_here() const { return process_ == ::getpid() && !shut_down_; }

void TreadleBackend::setTimeout(std::chrono::milliseconds timeout) {
  communicator().set_timeout(timeout);
  options_->timeout = timeout;
}

uint64_t TreadleBackend::getSequenceNumberForGroup() {
  return communicator().operations_submitted();
}

c10d::ErrorType TreadleBackend::getError() {
  if (process_ != ::getpid()) return c10d::ErrorType::COMM_ERROR;
  const auto error = live_->communicator.error();
  if (!error) return c10d::ErrorType::SUCCESS;
  switch (error->code()) {
    case ErrorCode::kTimeout:
      return c10d::ErrorType::TIMEOUT;
    case ErrorCode::kRemote:
      return c10d::ErrorType::REMOTE_ERROR;
    default:
      return c10d::ErrorType::COMM_ERROR;
  }
}

std::string TreadleBackend::failure() const {
  if (process_ != ::getpid()) return "this process was forked from the group's";
  const auto error = live_->communicator.error();
  return error ? error->what() : "";
}

std::vector<std::string> TreadleBackend::links() const {
  communicator();
  return live_->context->links();
}

void TreadleBackend::abort() { abort_because("abort() was called"); }

void TreadleBackend::abort_because(const std::string& reason) {
  if (process_ != ::getpid()) return;
  try {
    live_->communicator.abort(reason);
  } catch (const std::exception& error) {
    TORCH_WARN("treadle: aborting process group '", getGroupUid(), "': ", error.what());
  }
}

void TreadleBackend::shutdown() {
  if (process_ != ::getpid() || shut_down_.exchange(true)) return;
  live_->communicator.shutdown();
}

TreadleBackend::WorkPtr TreadleBackend::run(const Call& call, const Tensors& inputs,
                                            Operands operands, const Submit& submit) {
  Communicator& group = communicator();
  auto work = c10::make_intrusive<TreadleWork>(rank_, call.type, call.title, inputs,
                                               std::move(operands), recorder_);
  const bool wait_here = !call.asynchronous && !coalescing_here();
  CallOptions options;
  if (call.timeout >= milliseconds(0)) options.timeout = call.timeout;
  options.blocking = wait_here;

  Operations operations;
  try {
    crossing_into_torch([&] {
      attempt([&] { submit(group, options, operations); }, "calling {} on rank {} of group '{}'",
              work->name(), rank_, getGroupUid());
    });
  } catch (...) {
    work->begin(std::move(operations));  // keeps the tensors for those that already run
    throw;
  }
  work->begin(std::move(operations));
  if (wait_here) {
    work->wait();
  } else {
    remember_for_coalescing(work);
  }
  return work;
}

// ---- coalescing: operations start at once, ending the group only waits for them ----

void TreadleBackend::startCoalescing() {
  const std::lock_guard lock(coalescing_mutex_);
  coalescing_[std::this_thread::get_id()].clear();
}

bool TreadleBackend::coalescing_here() const {
  const std::lock_guard lock(coalescing_mutex_);
  return !coalescing_.empty() && coalescing_.contains(std::this_thread::get_id());
}

void TreadleBackend::remember_for_coalescing(const c10::intrusive_ptr<TreadleWork>& work) {
  const std::lock_guard lock(coalescing_mutex_);
  if (coalescing_.empty()) return;
  const auto open = coalescing_.find(std::this_thread::get_id());
  if (open == coalescing_.end()) return;
  auto& members = open->second;
  members.push_back(work);
  if (members.size() % kManyMembers == 0) {
    std::erase_if(members, [](const auto& member) { return member->isSuccess(); });
  }
}

TreadleBackend::WorkPtr TreadleBackend::endCoalescing() {
  std::vector<c10::intrusive_ptr<TreadleWork>> members;
  {
    const std::lock_guard lock(coalescing_mutex_);
    const auto open = coalescing_.find(std::this_thread::get_id());
    if (open != coalescing_.end()) {
      members = std::move(open->second);
      coalescing_.erase(open);
    }
  }
  return c10::make_intrusive<CoalescedWork>(rank_, std::move(members));
}

}  // namespace treadle
