#include "core/name_list.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <utility>

#include "core/check.h"

namespace drystone::core {

NameList::NameList(std::vector<std::string> names) : names_(std::move(names)) {
  require(std::ranges::adjacent_find(names_, std::greater_equal()) == names_.end(),
          "NameList: not sorted");
}

NameList NameList::numbered(std::string prefix, std::size_t count) {
  NameList list;
  list.is_numbered_ = true;
  list.prefix_ = std::move(prefix);
  list.count_ = count;
  list.width_ = std::to_string(count).size();
  return list;
}

std::string NameList::operator[](std::size_t place) const {
  if (!is_numbered_) return names_[place];
  const std::string number = std::to_string(place + 1);
  return prefix_ + std::string(width_ - number.size(), '0') + number;
}

std::optional<std::size_t> NameList::find(std::string_view name) const {
  if (!is_numbered_) {
    const auto found = std::ranges::lower_bound(names_, name);
    if (found == names_.end() || *found != name) return std::nullopt;
    return static_cast<std::size_t>(found - names_.begin());
  }
  if (!name.starts_with(prefix_) || name.size() != prefix_.size() + width_) return std::nullopt;
  const std::string_view digits = name.substr(prefix_.size());
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number == 0 ||
      number > count_) {
    return std::nullopt;
  }
  return number - 1;
}

std::vector<std::string> NameList::longest(std::size_t count) const {
  std::vector<std::string> names = names_;
  for (std::size_t place = 0; is_numbered_ && place < count; ++place) {
    names.push_back((*this)[place]);
  }
  std::ranges::stable_sort(names, std::greater(), &std::string::size);
  names.resize(count);
  std::ranges::sort(names);
  return names;
}

}  // namespace drystone::core
