// The documentation against the code: every setting as it is, every page and link that is named.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/config.h"

namespace treadle {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kRoot = TREADLE_SOURCE_DIR;

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

// The files below the root with one of these endings; build folders and hidden ones are not
// entered.
std::vector<fs::path> files_that_end_in(const std::set<std::string>& endings) {
  std::vector<fs::path> files;
  for (auto it = fs::recursive_directory_iterator(kRoot); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name.starts_with('.') || name == "build" || name == "shared")) {
      it.disable_recursion_pending();
    } else if (endings.contains(it->path().extension().string())) {
      files.push_back(it->path());
    }
  }
  std::ranges::sort(files);
  return files;
}

// Every match's first group.
std::vector<std::string> found_in(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) {
    found.push_back((*it)[1].str());
  }
  return found;
}

std::string row_of(const Setting& setting) {
  return fmt::format("| `{}` | {} | {} | {} | {} |\n", setting.name,
                     setting.standard.empty() ? "empty" : "`" + setting.standard + "`",
                     setting.unit, setting.must_agree ? "yes" : "", setting.meaning);
}

TEST(DocsTest, PageOfSettingsIsTheTableOfTheCode) {
  const std::string page = text_of(kRoot / "docs/guides/settings.md");
  std::string table;
  for (const Setting& setting : settings_of(Config{})) table += row_of(setting);
  EXPECT_THAT(page, HasSubstr(table)) << "the rows of docs/guides/settings.md should be:\n"
                                      << table;
}

TEST(DocsTest, EverySettingThatAPageNamesExists) {
  const std::string names = R"re((TREADLE_[A-Z_]*[A-Z]))re";
  std::set<std::string> known = {"TREADLE_PYTHON", "TREADLE_CHECK"};  // of make; a macro
  for (const Setting& setting : settings_of(Config{})) known.insert(setting.name);
  for (const std::string& option : found_in(text_of(kRoot / "CMakeLists.txt"), names)) {
    known.insert(option);
  }
  for (const fs::path& page : files_that_end_in({".md"})) {
    for (const std::string& name : found_in(text_of(page), names)) {
      EXPECT_TRUE(known.contains(name)) << page << " names " << name;
    }
  }
}

TEST(DocsTest, PagesThatTheCodeNamesExist) {
  for (const fs::path& file : files_that_end_in({".cc", ".h", ".py", ".md"})) {
    for (const std::string& page : found_in(text_of(file), R"re(\b(docs/[a-z0-9_/-]+\.md))re")) {
      EXPECT_TRUE(fs::exists(kRoot / page)) << file << " names " << page;
    }
  }
}

TEST(DocsTest, LinksLeadSomewhere) {
  for (const fs::path& page : files_that_end_in({".md"})) {
    for (const std::string& link : found_in(text_of(page), R"re(\]\(([^)#:\s]+)(?:#[^)]*)?\))re")) {
      EXPECT_TRUE(fs::exists(page.parent_path() / link)) << page << " links to " << link;
    }
  }
}

}  // namespace
}  // namespace treadle
