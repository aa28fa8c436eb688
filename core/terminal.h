#pragma once
// One output stream that several threads share: ordinary lines, and on a terminal a block of status
// lines below them that is redrawn in place.

#include <cstddef>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::core {

struct TerminalSize {
  std::size_t columns = 80;
  std::size_t rows = 24;
};

/// Every call may come from any thread and writes to the stream once, so nothing tears or flickers.
class Terminal {
 public:
  /// The process's stderr; interactive when that is a terminal which understands cursor movement.
  /// There is one because there is one stderr: the log and the progress bars must not overwrite
  /// each other.
  static Terminal& standard_error();

  /// A stream of given shape, for tests; never interactive when `interactive` is false.
  Terminal(std::ostream& stream, bool interactive, TerminalSize size);
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool interactive() const { return interactive_; }
  /// Asked anew at each call for stderr, whose window may be resized.
  TerminalSize size() const;

  /// Writes one line above the block, made visible (core/text.h).
  void print(std::string_view line);
  /// Replaces the block; each line is cut to the width. Ignored when not interactive.
  void show(const std::vector<std::string>& block);

 private:
  enum class Kind { Stderr, Given };
  explicit Terminal(Kind kind);

  std::string rewound() const;
  std::string rendered_block() const;

  std::ostream& stream_;
  bool interactive_;
  Kind kind_ = Kind::Given;
  TerminalSize size_;
  std::mutex mutex_;
  std::vector<std::string> block_;
  std::size_t drawn_lines_ = 0;
};

/// The first `columns` characters of UTF-8 `text`, never half of one.
std::string_view clipped(std::string_view text, std::size_t columns);

}  // namespace drystone::core
