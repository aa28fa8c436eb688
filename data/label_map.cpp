#include "data/label_map.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "data/classes_in.h"
#include "data/record_reader.h"

namespace drystone::data {

namespace {

constexpr std::size_t kMaxClasses = 10'000;

std::optional<std::int64_t> as_integer(const std::string& name) {
  std::int64_t value = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

void sort_names(std::vector<std::string>& names) {
  const auto is_integer = [](const std::string& name) { return as_integer(name).has_value(); };
  if (!std::all_of(names.begin(), names.end(), is_integer)) return;  // as the set had them
  std::stable_sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return *as_integer(a) < *as_integer(b);
  });
}

void add_names(const std::filesystem::path& file, const core::DataConfig& config,
               std::set<std::string>& names) {
  RecordReader reader(file, {.text = config.text_field, .label = config.label_field});
  for (Record record; reader.next(record);) {
    auto name = class_name(record.label);
    if (!name) {
      throw core::ConfigError(record.where.str() + ": no class in field " +
                              core::quote(config.label_field) + "; " + kNoLabelRemedy);
    }
    names.insert(*std::move(name));
    if (names.size() > kMaxClasses) {
      throw core::ConfigError(record.where.str() + ": more than " + std::to_string(kMaxClasses) +
                              " classes; does data.label_field name the label?");
    }
  }
}

}  // namespace

std::vector<std::string> classes_in(const core::DataConfig& config) {
  const bool is_one = std::filesystem::is_regular_file(config.train);
  const auto files = is_one ? std::vector{config.train} : data_files(config.train);
  std::set<std::string> names;
  for (const std::filesystem::path& file : files) add_names(file, config, names);
  std::vector<std::string> sorted(names.begin(), names.end());
  sort_names(sorted);
  return sorted;
}

LabelMap::LabelMap(std::vector<std::string> names) : names_(std::move(names)) {
  if (names_.size() < 2) throw core::ConfigError("data.labels: name at least two classes");
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (!ids_.emplace(names_[i], static_cast<std::int64_t>(i)).second) {
      throw core::ConfigError("data.labels: " + core::quote(names_[i]) + " is there twice");
    }
  }
}

std::optional<std::int64_t> LabelMap::id(const Label& label) const {
  const auto name = class_name(label);
  if (!name) return std::nullopt;
  const auto found = ids_.find(*name);
  if (found != ids_.end()) return found->second;
  // Data sets for transformers hold ids.
  const auto number = as_integer(*name);
  const bool is_id = number && *number >= 0 && *number < size() &&
                     std::none_of(
                         names_.begin(), names_.end(),
                         [](const std::string& own) { return as_integer(own).has_value(); });
  return is_id ? number : std::nullopt;
}

LabelMap resolve_labels(const core::DataConfig& config) {
  if (!config.labels.empty()) return LabelMap(config.labels);
  std::vector<std::string> found = classes_in(config);
  if (found.size() < 2) {
    throw core::ConfigError(config.train.string() + ": " + std::to_string(found.size()) +
                            " class(es) found; a classifier needs two, or set data.labels");
  }
  return LabelMap(std::move(found));
}

}  // namespace drystone::data
