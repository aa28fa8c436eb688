// examples/: every configuration loads, names methods and options that exist, and says how to run
// it and what to expect; every method has a page.

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "client/federated_data.h"
#include "core/client_list.h"
#include "core/config.h"
#include "core/files.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

const fs::path kSource = DRYSTONE_SOURCE_DIR;

std::vector<fs::path> configurations(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const bool is_of_devices = entry.path().parent_path().filename() == "devices";
    if (entry.path().extension() == ".toml" && !is_of_devices) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// The comment that a file begins with.
std::string head_of(const fs::path& file) {
  const std::string text = core::read_text_file(file, 1 << 20);
  std::size_t end = 0;
  while (end < text.size() && text[end] == '#') end = text.find('\n', end) + 1;
  return text.substr(0, end);
}

/// All pages on methods.
std::string pages() {
  std::string text;
  for (const auto& entry : fs::directory_iterator(kSource / "docs/methods")) {
    if (entry.path().extension() == ".md") text += core::read_text_file(entry.path(), 1 << 20);
  }
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("examples: every configuration loads, and its methods take their options") {
  const auto files = configurations(kSource / "examples");
  CHECK(files.size() >= 20);
  for (const fs::path& file : files) {
    CAPTURE(file.string());
    core::Config config;
    CHECK_NOTHROW(config = core::load_config(file, {}));
    CHECK_NOTHROW(client::check_methods(config));
    for (const core::ListedClient& listed : core::list_clients(config)) {
      CHECK_NOTHROW(adapters::validate(adapters::spec_of(listed.training)));
    }
    const std::string head = head_of(file);
    CHECK((contains(head, "drystone simulate") || contains(head, "`./dev demo`")));
  }
}

TEST_CASE("examples: every method has a page") {
  const std::string documented = pages();
  for (const adapters::Method& method : adapters::methods()) {
    CAPTURE(method.name);
    CHECK(contains(documented, '"' + std::string(method.name) + '"'));
  }
}

TEST_CASE("examples: those of methods are called alike, say how to run them and what to expect") {
  const auto files = configurations(kSource / "examples/methods");
  CHECK(files.size() >= 17);
  for (const fs::path& file : files) {
    CAPTURE(file.string());
    const core::Config config = core::load_config(file, {});
    CHECK(config.training.method == file.stem());
    CHECK(fs::path(config.output.dir).filename() == "news-" + file.stem().string());
    const std::string head = head_of(file);
    CHECK(
        contains(head, "build/bin/drystone simulate examples/methods/" + file.filename().string()));
    CHECK(contains(head, "# Expect"));
  }
}
