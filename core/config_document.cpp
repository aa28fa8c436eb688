// The document half of config_reader.h: parsing, overrides, positions and unknown keys.
#include <algorithm>

#include "core/config_reader.h"
#include "core/files.h"
#include "core/shorten.h"
#include "core/text.h"
#include "core/toml_depth.h"
#include "core/toml_text.h"

namespace drystone::core::detail {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 4 << 20;

std::string read_source(const std::filesystem::path& file) {
  try {
    return read_text_file(file, kMaxConfigBytes);
  } catch (const IoError& error) {
    throw ConfigError(error.what());
  }
}

/// As `key = text` would be read in the file; what is not TOML is a string.
toml::table parse_override(const std::string& text) {
  try {
    check_toml_depth(text, "--set");
    toml::table table = toml::parse("value = " + text);
    if (table.size() == 1 && !table.get("value")->is_date() && !table.get("value")->is_time() &&
        !table.get("value")->is_date_time()) {
      return table;
    }
  } catch (const toml::parse_error&) {  // e.g. a bare word: taken literally below
  }
  toml::table table;
  table.insert_or_assign("value", text);
  return table;
}

std::vector<std::string> split(const std::string& key) {
  std::vector<std::string> parts(1);
  for (const char c : key) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

bool is_index(const std::string& part) {
  return part.size() <= 9 && part.find_first_not_of("0123456789") == std::string::npos;
}

/// Whether it is [[clients]], misspelt.
bool is_like_clients(const std::string& key, const toml::node& node) {
  constexpr std::size_t kMostEdits = 3;
  return node.is_array_of_tables() && edit_distance(key, "clients") <= kMostEdits;
}

bool is_written_section(const toml::node& node) {
  return node.is_table() && node.source().begin.line > 0;  // --set has no lines
}

std::string section_title(const std::string& section) {
  if (section == "clients") return "[[clients]]";
  return section.empty() ? "the top of the file, before the first [section]" : "[" + section + "]";
}

}  // namespace

Document::Document(const std::filesystem::path& file, const std::vector<std::string>& overrides)
    : file_(file),
      folder_(std::filesystem::absolute(file).parent_path()),
      root_(parse_toml(read_source(file), file.string())) {
  for (const auto& assignment : overrides) apply(assignment);
}

void Document::apply(const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string key = assignment.substr(0, equals);
  const auto parts = split(key);
  const bool has_empty = std::ranges::any_of(parts, [](auto& part) { return part.empty(); });
  if (equals == std::string::npos || has_empty || parts.size() > kMostTomlLevels) {
    throw ConfigError("--set " + shorten(assignment, 200) +
                      ": is not key=value; write e.g. --set training.rank=16");
  }
  toml::node* parent = &root_;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) parent = &descend(*parent, parts[i], key);
  if (!parent->is_table()) {
    throw located_error("--set", key,
                        "does not lead to a key of a section; write e.g. "
                        "--set training.rank=16 or --set clients.0.rank=16");
  }
  const std::string text = assignment.substr(equals + 1);
  toml::table parsed = parse_override(text);
  parsed.get("value")->visit(
      [&](auto& value) { parent->as_table()->insert_or_assign(parts.back(), std::move(value)); });
  overrides_[key] = text;
}

toml::node& Document::descend(toml::node& parent, const std::string& part, const std::string& key) {
  if (auto* table = parent.as_table()) {
    if (!table->contains(part)) table->insert(part, toml::table{});
    return *table->get(part);
  }
  auto* array = parent.as_array();
  if (array == nullptr || !is_index(part)) {
    throw located_error("--set", key,
                        quote(part) +
                            " leads nowhere; write e.g. "
                            "--set training.rank=16 or --set clients.0.rank=16");
  }
  const auto index = static_cast<std::size_t>(std::stoul(part));
  if (index >= array->size()) {
    throw located_error(
        "--set", key,
        "there is no entry " + part + " among " + std::to_string(array->size()) + "; count from 0");
  }
  return *array->get(index);
}

std::string Document::position(const toml::source_region& source) const {
  return file_.string() + ":" + std::to_string(source.begin.line);
}

std::string Document::origin(const std::string& key, const toml::source_region& source) const {
  const bool overridden = std::ranges::any_of(overrides_, [&](const auto& entry) {
    return key == entry.first || key.starts_with(entry.first + ".");
  });
  if (overridden || source.begin.line == 0) return "--set";
  return position(source);
}

void Document::note(const std::string& key, const toml::node& node) {
  origins_[key] = origin(key, node.source());
}

std::optional<std::string> Document::override_text(const std::string& key) const {
  const auto found = overrides_.find(key);
  return found == overrides_.end() ? std::nullopt : std::optional(found->second);
}

void Document::visit(const std::string& key, const std::string& section, const toml::table& table) {
  visits_.push_back({key, section, &table});
  known_.try_emplace(section);
}

void Document::fail(const std::string& key, const toml::node* node,
                    const std::string& problem) const {
  throw located_error(node == nullptr ? file_.string() : origin(key, node->source()), key, problem);
}

void Document::refuse_unknown_keys() const {
  struct Unknown {
    toml::source_region source;
    std::string key;
    std::string name;
    std::string section;
    const toml::node* node;
  };
  std::optional<Unknown> first;
  for (const auto& [prefix, section, table] : visits_) {
    const auto& known = known_.at(section);
    for (const auto& [toml_key, node] : *table) {
      const std::string name(toml_key.str());
      if (known.contains(name)) continue;
      const auto line = toml_key.source().begin.line;
      if (first && first->source.begin.line <= line) continue;
      first = {toml_key.source(), prefix.empty() ? name : prefix + "." + name, name, section,
               &node};
    }
  }
  if (!first) return;
  throw located_error(origin(first->key, first->source), first->key,
                      "unknown key; " + advice(first->name, *first->node, first->section));
}

std::string Document::section_advice(const std::string& key, const toml::node& node) const {
  if (is_like_clients(key, node)) return "did you mean [[clients]]?";
  return "write [" + key + "] on a line of its own and its keys below";
}

std::string Document::advice(const std::string& unknown, const toml::node& node,
                             const std::string& section) const {
  if (section.empty() && is_like_clients(unknown, node)) return "did you mean [[clients]]?";
  if (section == "clients" && unknown == "name") {
    return "clients have no names here: they are client-1, client-2, … in the order of the "
           "entries; remove it";
  }
  for (const auto& [other, keys] : known_) {
    const bool repeats_training = other == "clients" && unknown != "count";
    if (other != section && !repeats_training && keys.contains(unknown)) {
      const bool is_of_clients = section == "client" && other == "training";
      return quote(unknown) + " belongs in " + section_title(other) +
             (is_of_clients ? ", or for some of the clients in [[clients]]" : "");
    }
  }
  if (section == "client" && is_index(unknown)) {
    return "did you mean \"clients." + unknown + "\", an entry of [[clients]]?";
  }
  const auto& keys = known_.at(section);
  const std::vector<std::string> known(keys.begin(), keys.end());
  const std::string close = nearest(unknown, known);
  if (close.empty()) return "remove it";
  if (edit_distance(unknown, close) <= std::max<std::size_t>(2, close.size() / 3)) {
    const std::string title = section.empty() ? close : section + "." + close;
    const bool is_section = is_written_section(node) && known_.contains(title);
    return "did you mean " + (is_section ? section_title(title) : quote(close)) + "?";
  }
  const bool trains = section == "training" || section == "clients";
  return "the nearest is " + quote(close) + "; " + section_title(section) + " takes " +
         join(known) + (trains ? "; options of a method go into [training.options]" : "");
}

ConfigError located_error(const std::string& origin, const std::string& key,
                          const std::string& problem) {
  const std::string where = origin == "--set" ? "--set " + key : origin + ": " + key;
  return ConfigError(where + ": " + problem);
}

}  // namespace drystone::core::detail
