#include "cli/prompts.h"

#include <cstdint>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "data/record.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

std::vector<Prompt> lines_of(const fs::path& file) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 28;
  if (!fs::exists(file)) {
    throw core::ConfigError("--prompt-file " + file.string() +
                            ": no such file; name one with a prompt a line");
  }
  std::istringstream text(core::read_text_file(file, kMostBytes));
  data::Place place{.file = std::make_shared<const std::string>(file.string())};
  std::vector<Prompt> prompts;
  for (std::string line; std::getline(text, line);) {
    ++place.line;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) prompts.push_back({std::move(line), place.str()});
  }
  if (prompts.empty()) {
    throw core::ConfigError("--prompt-file " + file.string() + ": no prompts; write one a line");
  }
  return prompts;
}

}  // namespace

std::vector<Prompt> read_prompts(const std::vector<std::string>& texts, const fs::path& file) {
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    prompts.push_back({text, "prompt " + std::to_string(prompts.size() + 1)});
  }
  if (!file.empty()) {
    for (Prompt& prompt : lines_of(file)) prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) {
    const std::istreambuf_iterator<char> begin(std::cin);
    prompts.push_back({std::string(begin, {}), "prompt 1"});
  }
  return prompts;
}

}  // namespace drystone::cli
