#include <stdexcept>

#include "collectives/communicator.h"
#include "collectives/communicator_state.h"
#include "collectives/context_state.h"
#include "collectives/selection.h"

namespace treadle {
namespace {

constexpr std::size_t kKeptScratchBytes = 32 << 20;

const ContextOptions& checked(const ContextOptions& options) {
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks) {
    throw std::invalid_argument(
        fmt::format("rank {} of {}: expected 0 <= rank < ranks", options.rank, options.ranks));
  }
  if (!options.store)
    throw std::invalid_argument("a context needs a store to find the other ranks");
  return options;
}

}  // namespace

ContextState::ContextState(const Config& settings, Mesh::Options options)
    : config(settings),
      log(log_level_from(settings.log_level), options.rank),
      rank(options.rank),
      ranks(options.ranks),
      process(::getpid()),
      fold(choose_fold(settings.kernels)),
      scratch_on_loop(kKeptScratchBytes),
      engine({.slice = settings.heartbeat / 4,
              .start_thread = true,
              .on_exception = [this](const Error& error) { mesh.fail_on_loop(error); }}),
      mesh(engine, config, log, std::move(options)) {}

void ContextState::check_process() const {
  if (process != ::getpid()) {
    throw Error(
        ErrorCode::kUnsupported,
        "process {} was forked from process {}, which owns this group: create a new one here",
        ::getpid(), process);
  }
}

std::shared_ptr<Context> Context::create(ContextOptions options) {
  checked(options);
  check_algorithm_names(options.config);
  Mesh::Options mesh{.rank = options.rank,
                     .ranks = options.ranks,
                     .store = std::move(options.store),
                     .transports = std::move(options.transports)};
  if (mesh.transports.empty()) mesh.transports = standard_transports();
  return std::make_shared<Context>(std::make_shared<ContextState>(options.config, std::move(mesh)));
}

Context::~Context() = default;
int Context::rank() const { return state_->rank; }
int Context::ranks() const { return state_->ranks; }
const Config& Context::config() const { return state_->config; }

Communicator Context::communicator(const CommunicatorOptions& options) {
  state_->check_process();
  for (std::size_t i = 0; i < options.ranks.size(); ++i) {
    const int rank = options.ranks[i];
    if (rank < 0 || rank >= state_->ranks ||
        std::count(options.ranks.begin(), options.ranks.end(), rank) != 1) {
      throw std::invalid_argument(
          fmt::format("group ranks [{}]: expected different ranks from 0 to {}",
                      fmt::join(options.ranks, ", "), state_->ranks - 1));
    }
  }
  return Communicator(std::make_shared<CommunicatorState>(state_, options));
}

std::vector<std::string> Context::links() const {
  std::vector<std::string> lines;
  state_->engine.run_on_loop([&] {
    for (int r = 0; r < state_->ranks; ++r) {
      if (r != state_->rank)
        lines.push_back(fmt::format("rank {}: {}", r, state_->mesh.link_text_on_loop(r)));
    }
  });
  return lines;
}

}  // namespace treadle
