#pragma once
// Sorted names, listed or numbered: a million numbered ones take no memory.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::core {

class NameList {
 public:
  NameList() = default;
  /// @throws core::InvalidArgument  not sorted, or twice the same
  NameList(std::vector<std::string> names);  // NOLINT(google-explicit-constructor)
  /// PREFIX1 to PREFIX`count`, zero-padded so that they sort by number.
  static NameList numbered(std::string prefix, std::size_t count);

  std::size_t size() const { return is_numbered_ ? count_ : names_.size(); }
  bool empty() const { return size() == 0; }
  std::string operator[](std::size_t place) const;
  /// The place of a name; std::nullopt: not among them.
  std::optional<std::size_t> find(std::string_view name) const;
  /// Some `count` of them, of which none is shorter than one that is left out; in order.
  std::vector<std::string> longest(std::size_t count) const;
  bool contains(std::string_view name) const { return find(name).has_value(); }

 private:
  std::vector<std::string> names_;
  bool is_numbered_ = false;
  std::string prefix_;
  std::size_t count_ = 0;
  std::size_t width_ = 0;
};

}  // namespace drystone::core
