#pragma once
// The part of Jinja 3 that chat templates are written in, with the settings and additions of
// transformers: trim_blocks and lstrip_blocks on, an immutable sandbox, {% generation %}, break and
// continue, raise_exception, strftime_now and Python's JSON in tojson.

#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace drystone::text::jinja {

struct Rendered {
  std::string text;
  /// Byte ranges that {% generation %} marks, ascending.
  std::vector<std::pair<std::size_t, std::size_t>> generations;
};

/// Templates come from strangers: whatever one says, rendering ends. It costs at most 10 million
/// steps and 256 MiB of values, 16 MiB each, and neither its syntax nor its calls nest without
/// bound.
/// Immutable: may be used from several threads at once.
class Template {
 public:
  /// Supported: output, if, for (else, if), set (also of blocks and namespaces), macro, raw,
  /// comments, white space control; every operator; the filters, tests, methods and functions in
  /// docs/data.md.
  /// @throws core::ConfigError  `line N: …`
  explicit Template(std::string_view source);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// @param now  for strftime_now
  /// @throws core::ConfigError  `line N: …`: raised by the template, an operation that Python
  ///                            refuses too, or beyond the limits
  Rendered render(const Dict& variables, std::time_t now) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace drystone::text::jinja
