// Which folder may include which: reads the #include lines of the source tree.
//
//   plugins -> {parameter_server, scheduling, collectives, compression} -> transport -> core
//
// plugins, bench, tests and examples may include anything. A folder inside a layer holds one
// concrete thing (a transport, the algorithms of a collective, a codec), which only that folder
// itself and the layer's tables may name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Layer {
  std::string_view name;
  std::vector<std::string_view> sees;        // of other layers: a folder ("core/") or one file
  std::vector<std::string_view> tables;      // files that may name concrete things
  std::vector<std::string_view> components;  // folders that are no concrete things
};

const std::vector<Layer>& layers() {
  static const std::vector<Layer> kLayers = {
      {"core", {}, {}, {"kernels"}},
      {"transport", {"core/"}, {"transports.cc"}, {}},
      {"compression", {"core/"}, {"codecs.cc"}, {}},
      {"scheduling", {"core/"}, {"orders.cc"}, {}},
      {"collectives",
       {"core/", "transport/transport.h", "transport/engine.h", "transport/store.h",
        "transport/message.h", "transport/mesh.h", "compression/codec.h"},
       {"algorithms.cc", "selection.cc"},
       {"local"}},
      {"parameter_server",
       {"core/", "transport/transport.h", "transport/engine.h", "transport/store.h",
        "transport/message.h", "transport/mesh.h", "compression/codec.h"},
       {},
       {}},
  };
  return kLayers;
}

const Layer* layer_of(std::string_view path) {
  for (const Layer& layer : layers()) {
    if (path.substr(0, path.find('/')) == layer.name) return &layer;
  }
  return nullptr;
}

// "transport/tcp/tcp.h" -> "tcp"; "transport/mesh.h" -> "".
std::string_view folder_in_layer(std::string_view path) {
  const auto first = path.find('/');
  const auto second = path.find('/', first + 1);
  if (second == std::string_view::npos) return "";
  return path.substr(first + 1, second - first - 1);
}

bool contains(const std::vector<std::string_view>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

bool sees(const Layer& layer, std::string_view included) {
  return std::ranges::any_of(layer.sees, [&](std::string_view seen) {
    return seen.ends_with('/') ? included.starts_with(seen) : included == seen;
  });
}

// Why `file` must not include "included"; empty if it may.
std::string objection(std::string_view file, std::string_view included) {
  const Layer* from = layer_of(file);
  if (from == nullptr) return "";
  const Layer* to = layer_of(included);
  if (to == nullptr) return "is no path from the root to one of the library's layers";
  if (to != from) return sees(*from, included) ? "" : "is an arrow that does not exist";

  const std::string_view thing = folder_in_layer(included);
  const bool is_table = contains(from->tables, file.substr(from->name.size() + 1));
  if (thing.empty() || thing == folder_in_layer(file) || contains(from->components, thing) ||
      is_table) {
    return "";
  }
  return "names a concrete thing outside a table";
}

// Why `file` must not include <included>: the library knows no torch and no Python.
std::string objection_to_system(std::string_view file, std::string_view included) {
  if (layer_of(file) == nullptr) return "";
  for (std::string_view outside : {"torch/", "c10/", "ATen/", "pybind11/", "Python.h"}) {
    if (included.starts_with(outside)) return "brings torch or Python into the library";
  }
  return "";
}

std::string without_comment(const std::string& line) { return line.substr(0, line.find("//")); }

std::vector<std::string> objections_to_line(const std::string& file, const std::string& line) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
  static const std::regex kEnvironment(
      "\\b(secure_)?get"
      "env\\b|\\benv"
      "iron\\b");
  std::vector<std::string> found;
  std::smatch match;
  if (std::regex_search(line, match, kInclude)) {
    const std::string why = match[1] == "<" ? objection_to_system(file, match[2].str())
                                            : objection(file, match[2].str());
    if (!why.empty()) found.push_back(match[2].str() + " " + why);
  }
  const std::string code = without_comment(line);
  if (file != "core/config.cc" && std::regex_search(code, kEnvironment)) {
    found.push_back("reads the environment, which only core/config.cc may");
  }
  return found;
}

// The source files below `root`, as paths relative to it, sorted. Build folders and folders whose
// name starts with a dot are not entered.
std::vector<std::string> source_files(const fs::path& root) {
  std::vector<std::string> files;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name.starts_with('.') || name == "build")) {
      it.disable_recursion_pending();
    } else if (it->path().extension() == ".cc" || it->path().extension() == ".h") {
      files.push_back(fs::relative(it->path(), root).string());
    }
  }
  std::ranges::sort(files);
  return files;
}

std::vector<std::string> objections_to_tree(const fs::path& root) {
  std::vector<std::string> found;
  for (const std::string& file : source_files(root)) {
    std::ifstream in(root / file);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      for (const std::string& why : objections_to_line(file, line)) {
        found.push_back(file + ":" + std::to_string(number) + ": " + why);
      }
    }
  }
  return found;
}

TEST(ArrowsTest, HoldInThisTree) {
  const fs::path root = TREADLE_SOURCE_DIR;
  ASSERT_GT(source_files(root).size(), 50u) << root << " does not look like the source tree";
  for (const std::string& found : objections_to_tree(root)) ADD_FAILURE() << found;
}

// A source tree in a temporary folder.
class PlantedTreeTest : public testing::Test {
 protected:
  PlantedTreeTest() {
    std::string pattern = (fs::temp_directory_path() / "treadle-arrows-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~PlantedTreeTest() override { fs::remove_all(root_); }

  void plant(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::vector<std::string> objections() const { return objections_to_tree(root_); }

 private:
  fs::path root_;
};

TEST_F(PlantedTreeTest, AllowedIncludesPass) {
  plant("core/log.cc", "#include \"core/log.h\"\n#include <string>\n");
  plant("transport/tcp/tcp.cc", "#include \"transport/tcp/socket.h\"\n#include \"core/log.h\"\n");
  plant("transport/transports.cc", "#include \"transport/tcp/tcp.h\"\n");
  plant("collectives/executor.cc", "#include \"transport/transport.h\"\n");
  plant("collectives/allreduce/allreduce.cc", "#include \"collectives/allreduce/ring.h\"\n");
  plant("collectives/selection.cc", "#include \"collectives/allreduce/ring.h\"\n");
  plant("collectives/context.cc", "#include \"collectives/local/local_group.h\"\n");
  plant("plugins/torch/shim.cc", "#include <torch/torch.h>\n#include \"transport/tcp/tcp.h\"\n");
  EXPECT_THAT(objections(), IsEmpty());
}

TEST_F(PlantedTreeTest, UpwardIncludeIsFound) {
  plant("core/log.cc", "\n#include \"transport/transport.h\"\n");
  EXPECT_THAT(objections(), ElementsAre(HasSubstr("core/log.cc:2: transport/transport.h")));
}

TEST_F(PlantedTreeTest, SidewaysIncludesAreFound) {
  plant("compression/codecs.cc", "#include \"collectives/plan.h\"\n");
  plant("scheduling/tic.cc", "#  include \"compression/codec.h\"\n");
  EXPECT_THAT(objections(), ElementsAre(HasSubstr("compression/codecs.cc:1: collectives/plan.h"),
                                        HasSubstr("scheduling/tic.cc:1: compression/codec.h")));
}

TEST_F(PlantedTreeTest, ConcreteTransportInCollectivesIsFound) {
  plant("collectives/context.cc", "#include \"transport/tcp/tcp.h\"\n");
  EXPECT_THAT(objections(), ElementsAre(HasSubstr("transport/tcp/tcp.h is an arrow")));
}

TEST_F(PlantedTreeTest, ConcreteThingOutsideATableIsFound) {
  plant("collectives/executor.cc", "#include \"collectives/allreduce/ring.h\"\n");
  plant("transport/mesh.cc", "#include \"transport/tcp/tcp.h\"\n");
  plant("transport/shm/shm.cc", "#include \"transport/tcp/tcp.h\"\n");
  EXPECT_THAT(objections(),
              ElementsAre(HasSubstr("collectives/executor.cc:1"), HasSubstr("transport/mesh.cc:1"),
                          HasSubstr("transport/shm/shm.cc:1")));
}

TEST_F(PlantedTreeTest, RelativeIncludeIsFound) {
  plant("core/log.cc", "#include \"log.h\"\n");
  EXPECT_THAT(objections(), ElementsAre(HasSubstr("log.h is no path from the root")));
}

TEST_F(PlantedTreeTest, TorchInTheLibraryIsFound) {
  plant("core/dtype.cc", "#include <c10/core/ScalarType.h>\n");
  EXPECT_THAT(objections(), ElementsAre(HasSubstr("brings torch")));
}

TEST_F(PlantedTreeTest, OnlyConfigReadsTheEnvironment) {
  const std::string reading =
      "const char* home = std::get"
      "env(\"HOME\");\n";
  plant("core/config.cc", reading);
  plant("core/error.cc",
        "// not get"
        "env\n");
  plant("tests/x_test.cc",
        "\nextern char** env"
        "iron;\n");
  plant("bench/treadle-perf/main.cc", reading);
  EXPECT_THAT(objections(),
              ElementsAre(HasSubstr("bench/treadle-perf/main.cc:1: reads the environment"),
                          HasSubstr("tests/x_test.cc:2: reads the environment")));
}

}  // namespace
}  // namespace treadle
