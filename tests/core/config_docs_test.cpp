// docs/configuration.md tells the truth: its example loads, its keys and defaults are the real
// ones.
#include <map>
#include <set>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

#include "core/config.h"
#include "core/files.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

std::string page() {
  return core::read_text_file(DRYSTONE_SOURCE_DIR "/docs/configuration.md", 1 << 20);
}

std::string between(const std::string& text, const std::string& left, const std::string& right) {
  const std::size_t begin = text.find(left);
  if (begin == std::string::npos) return {};
  const std::size_t end = text.find(right, begin + left.size());
  return end == std::string::npos ? ""
                                  : text.substr(begin + left.size(), end - begin - left.size());
}

struct Row {
  bool hashed;
  std::string standard;  ///< default as TOML; empty where the table says "none" or uses words
};

/// Section → key → row of its table.
std::map<std::string, std::map<std::string, Row>> documented() {
  std::map<std::string, std::map<std::string, Row>> sections;
  std::istringstream lines(page());
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    if (line == "## Top level") section = "";
    if (line.starts_with("## [")) section = line.substr(3);
    if (!line.starts_with("| `")) continue;
    std::istringstream cells(line);
    std::string cell;
    std::getline(cells, cell, '|');
    std::getline(cells, cell, '|');
    const std::string key = between(cell, "`", "`");
    const bool hashed = cell.find("●") != std::string::npos;
    std::getline(cells, cell, '|');
    std::getline(cells, cell, '|');
    sections[section][key] = {hashed, cell.ends_with("` ") ? between(cell, "`", "`") : ""};
  }
  return sections;
}

/// The same from what to_toml writes for a configuration in which every path and table is there.
std::map<std::string, std::set<std::string>> written() {
  core::Config config;
  config.model.path = config.data.train = config.data.test = config.data.cache = "/x";
  config.federation.layout = config.federation.initial = "/x";
  config.security = {"tcp://h:1", "/x", "/x", "/x"};
  std::map<std::string, std::set<std::string>> sections;
  std::istringstream lines(core::to_toml(config));
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) section = line;
    const std::size_t equals = line.find(" = ");
    if (equals != std::string::npos) sections[section].insert(line.substr(0, equals));
  }
  return sections;
}

core::Config load_text(const std::string& text) {
  const test::TemporaryFolder folder;
  return core::load_config(folder.write("docs.toml", text));
}

}  // namespace

TEST_CASE("docs/configuration.md: the example loads") {
  const core::Config config = load_text(between(page(), "```toml\n", "```"));
  CHECK(config.name == "news");
  CHECK(core::num_clients(config) == 10);
}

TEST_CASE("docs/configuration.md: every key has a row, and every row is a key") {
  const auto tables = documented();
  for (const auto& [section, keys] : written()) {
    for (const auto& key : keys) {
      CAPTURE(section + key);
      REQUIRE(tables.contains(section));
      CHECK(tables.at(section).contains(key));
    }
  }
  for (const auto& [section, rows] : tables) {
    for (const auto& [key, row] : rows) {
      CAPTURE(section + key);
      const std::string sample = key == "coordinator" ? "\"tcp://h:1\"" : "\"x\"";
      const std::string value = row.standard.empty() ? sample : row.standard;
      CHECK_NOTHROW(load_text(section + "\n" + key + " = " + value));
    }
  }
}

TEST_CASE("docs/configuration.md: the defaults are the real ones") {
  for (const auto& [section, rows] : documented()) {
    if (section == "[[clients]]") continue;
    for (const auto& [key, row] : rows) {
      if (row.standard.empty()) continue;
      CAPTURE(section + key);
      CHECK(load_text(section + "\n" + key + " = " + row.standard) == load_text(""));
    }
  }
}

TEST_CASE("docs/configuration.md: the keys marked as hashed are those of semantic_text") {
  // Keys of later versions are hashed where they are set.
  const std::string text = core::semantic_text(
      load_text("[training]\nprecision = \"bfloat16\"\nmemory_limit = \"1GB\"\nschedule_over = "
                "\"federation\"\n"
                "rank_scaling = \"rate\"\n[federation]\nattempts = 4\nover_selection = "
                "2.0\n[aggregation]\nmax_norm = 7.0\n"
                "[[clients]]"));
  for (const auto& [section, rows] : documented()) {
    if (section == "[[clients]]") continue;
    const std::string prefix =
        section.empty() ? "\n" : "\n" + section.substr(1, section.size() - 2) + ".";
    for (const auto& [key, row] : rows) {
      if (key == "options") continue;
      CAPTURE(section + key);
      CHECK((text.find(prefix + key + " = ") != std::string::npos) == row.hashed);
    }
  }
}
