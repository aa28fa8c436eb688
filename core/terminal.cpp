#include "core/terminal.h"

#include <cstdlib>
#include <iostream>

#include <sys/ioctl.h>
#include <unistd.h>

#include "core/text.h"

namespace drystone::core {
namespace {

bool stderr_moves_cursor() {
  const char* kind = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

TerminalSize stderr_size() {
  winsize window{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return {};
  return {.columns = window.ws_col, .rows = window.ws_row};
}

}  // namespace

Terminal& Terminal::standard_error() {
  static Terminal terminal(Kind::Stderr);
  return terminal;
}

Terminal::Terminal(std::ostream& stream, bool interactive, TerminalSize size)
    : stream_(stream), interactive_(interactive), size_(size) {}

Terminal::Terminal(Kind kind)
    : stream_(std::cerr), interactive_(stderr_moves_cursor()), kind_(kind) {}

TerminalSize Terminal::size() const { return kind_ == Kind::Stderr ? stderr_size() : size_; }

void Terminal::print(std::string_view line) {
  const std::scoped_lock lock(mutex_);
  std::string frame = rewound();
  frame += visible(line);
  frame += '\n';
  frame += rendered_block();
  drawn_lines_ = block_.size();
  stream_ << frame << std::flush;
}

void Terminal::show(const std::vector<std::string>& block) {
  if (!interactive_) return;
  const std::scoped_lock lock(mutex_);
  block_ = block;
  const std::string frame = rewound() + rendered_block();
  drawn_lines_ = block_.size();
  stream_ << frame << std::flush;
}

// Back to the block's first column, and everything from there on cleared.
std::string Terminal::rewound() const {
  if (drawn_lines_ == 0) return {};
  return "\x1b[" + std::to_string(drawn_lines_) + "A\r\x1b[J";
}

std::string Terminal::rendered_block() const {
  std::string text;
  const std::size_t columns = size().columns;
  for (const auto& line : block_) {
    text += clipped(visible(line), columns > 0 ? columns - 1 : 0);
    text += '\n';
  }
  return text;
}

std::string_view clipped(std::string_view text, std::size_t columns) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool continues = (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U;
    if (!continues && characters++ == columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace drystone::core
