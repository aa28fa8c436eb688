// What is no file, or a file that was made to hang or crash its reader: one line that names it.

#include <algorithm>
#include <chrono>
#include <functional>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

using Spoil = std::function<void(const fs::path&)>;

struct Way {
  const char* name;
  Spoil spoil;
};

Spoil content(const std::string& text) {
  return [text](const fs::path& file) { std::ofstream(file, std::ios::binary) << text; };
}

const std::vector<Way>& no_files() {
  static const std::vector<Way> ways = {
      {"FIFO", [](const fs::path& file) { REQUIRE(::mkfifo(file.c_str(), 0600) == 0); }},
      {"device", [](const fs::path& file) { fs::create_symlink("/dev/zero", file); }},
      {"folder", [](const fs::path& file) { fs::create_directory(file); }},
      {"holes", [](const fs::path& file) {
         std::ofstream(file, std::ios::binary) << "\x08";
         fs::resize_file(file, std::uintmax_t{1} << 40);
       }}};
  return ways;
}

std::string nested(const std::string& part) {
  std::string text;
  for (int i = 0; i < 1'000'000; ++i) text += part;
  return text;
}

/// Puts something else in the place of `file` and expects one line that names it.
void check(const fs::path& folder, const fs::path& file, const Way& way,
           const std::vector<std::string>& arguments) {
  CAPTURE(file.string());
  CAPTURE(way.name);
  const fs::path saved = folder / "saved";
  fs::rename(file, saved);
  way.spoil(file);
  const fs::path log = folder / "log";
  fs::remove(log);
  test::Process process("drystone", arguments, log);
  const int status = process.wait(std::chrono::seconds(100));
  const std::string output = process.output();
  fs::remove(file);
  fs::rename(saved, file);
  CAPTURE(output.substr(0, 3000));
  CHECK((status == 1 || status == 2));
  CHECK(output.size() < 3000);
  const std::size_t line = output.find("drystone: error: ");
  REQUIRE(line != std::string::npos);
  CHECK(output.find('\n', line) + 1 == output.size());
  CHECK(output.find(file.filename().string(), line) != std::string::npos);
  CHECK(output.find("no such file", line) == std::string::npos);  // it is there
}

}  // namespace

TEST_CASE("programs: a configuration and a model that are no files, or hostile ones") {
  const test::TinyFederation tiny;
  const std::vector<std::string> simulate = {"simulate", tiny.config_file(), "--log-level", "off"};
  const std::vector<fs::path> files = {tiny.config_file(), tiny.path() / "model/config.json",
                                       tiny.path() / "model/model.safetensors",
                                       tiny.path() / "model/vocab.txt",
                                       tiny.path() / "train.jsonl"};
  for (const fs::path& file : files) {
    for (const Way& way : no_files()) check(tiny.path(), file, way, simulate);
  }
  const Way deep_json{"deep", content(nested("["))};
  const Way deep_toml{"deep", content(nested("a.") + "a = 1\n")};
  check(tiny.path(), tiny.config_file(), deep_toml, simulate);
  check(tiny.path(), tiny.path() / "model/config.json", deep_json, simulate);
  check(tiny.path(), tiny.path() / "train.jsonl", deep_json, simulate);
  std::ifstream stream(tiny.path() / "model/config.json");
  std::string config{std::istreambuf_iterator<char>(stream), {}};
  const std::string key = "\"num_hidden_layers\": ";
  REQUIRE(config.find(key) != std::string::npos);
  config.insert(config.find(key) + key.size(), "100000");
  check(tiny.path(), tiny.path() / "model/config.json", {"layers", content(config)}, simulate);
}
