// treadle-info: what Treadle can do on this host, and why.
//
// Exit codes: 0 all right, 1 a failure, 2 a bad command line or setting.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "bench/treadle-info/facts.h"
#include "bench/treadle-info/print.h"
#include "core/config.h"

namespace {

using namespace treadle;

struct InfoOptions {
  bool only_settings = false;
  bool json = false;
};

void run(const InfoOptions& options) {
  const Config config = config_from_environment();
  if (options.only_settings && !options.json) {
    print_settings(settings_of(config));
    return;
  }
  const Facts facts = gather_facts(config);
  if (options.json) {
    print_json(facts);
  } else {
    print_text(facts);
  }
}

// Whoever has a bad setting and asks for the list still gets it.
int refuse(const InfoOptions& options, const std::invalid_argument& complaint) {
  fmt::print(stderr, "treadle-info: {}\n", complaint.what());
  if (options.only_settings && !options.json) print_settings(settings_of(Config{}));
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  InfoOptions options;
  CLI::App app("Tells what Treadle can do on this host, and why.", "treadle-info");
  app.add_flag("--config", options.only_settings, "every setting: value, default, unit, meaning");
  app.add_flag("--json", options.json, "everything, as one JSON object");
  app.set_version_flag("--version", TREADLE_VERSION);
  try {
    app.parse(argc, argv);
    run(options);
    return 0;
  } catch (const CLI::ParseError& ending) {
    return app.exit(ending) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& complaint) {
    return refuse(options, complaint);
  } catch (const std::exception& error) {
    fmt::print(stderr, "treadle-info: {}\n", error.what());
    return 1;
  }
}
