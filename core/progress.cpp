#include "core/progress.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "core/text.h"

namespace drystone::core {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kFrame(100);
constexpr seconds kBetweenLines(5);
constexpr std::int64_t kLinesPerTotal = 10;
constexpr std::size_t kMaxNameWidth = 24;

const Clock& system_clock() {
  static const SystemClock clock;
  return clock;
}

struct BarFacts {
  std::string name;
  std::int64_t total = 0;
  std::int64_t done_before = 0;
  std::int64_t step = 0;
  std::string note;
  Instant start{0};
  Instant last_line{0};
  std::int64_t last_line_step = 0;
  bool is_last_told = false;  ///< the line of the last step
};

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string padded(std::string_view text, std::size_t width) {
  std::string result(clipped(text, width));
  result.append(width - std::min(width, characters(result)), ' ');
  return result;
}

/// "12:05", "1:02:05"
std::string clock_text(double total_seconds) {
  const auto whole = static_cast<std::int64_t>(std::clamp(total_seconds, 0.0, 1e9));
  const auto two_digits = [](std::int64_t value) {
    return (value < 10 ? "0" : "") + std::to_string(value);
  };
  const std::string minutes_seconds =
      (whole < 3600 ? std::to_string(whole / 60) : two_digits(whole / 60 % 60)) + ":" +
      two_digits(whole % 60);
  return whole < 3600 ? minutes_seconds : std::to_string(whole / 3600) + ":" + minutes_seconds;
}

double seconds_since(Instant start, Instant now) {
  return std::chrono::duration<double>(now - start).count();
}

double fraction(const BarFacts& bar) {
  if (bar.total <= 0) return 0.0;
  return std::clamp(static_cast<double>(bar.step) / static_cast<double>(bar.total), 0.0, 1.0);
}

/// "[=====>    ]"
std::string gauge(double done, std::size_t width) {
  const auto filled = static_cast<std::size_t>(done * static_cast<double>(width));
  std::string text = "[" + std::string(filled, '=');
  if (filled < width) text += '>' + std::string(width - filled - 1, ' ');
  return text + "]";
}

/// "32/70", or "32" when the total is unknown.
std::string count_text(const BarFacts& bar) {
  const std::string step = std::to_string(bar.step);
  return bar.total > 0 ? step + "/" + std::to_string(bar.total) : step;
}

/// Seconds that are left at the speed since the bar is there; none: unknown, or done.
std::optional<double> time_left(const BarFacts& bar, double elapsed) {
  const std::int64_t seen = bar.step - bar.done_before;
  if (bar.total <= 0 || seen <= 0 || bar.step >= bar.total) return std::nullopt;
  return elapsed * static_cast<double>(bar.total - bar.step) / static_cast<double>(seen);
}

std::string time_text(const BarFacts& bar, double elapsed) {
  const std::optional<double> left = time_left(bar, elapsed);
  return clock_text(elapsed) + (left ? " < " + clock_text(*left) : "");
}

/// "client-3  [====>     ]  45%  32/70  0:12 < 0:15  loss 1.23": the gauge takes what room is left.
std::string bar_text(const BarFacts& bar, std::size_t name_width, std::size_t columns,
                     double elapsed) {
  const std::string name = padded(bar.name, name_width);
  std::string facts;
  if (bar.total > 0) {
    const std::string percent = std::to_string(static_cast<int>(fraction(bar) * 100.0));
    facts += std::string(3 - std::min<std::size_t>(3, percent.size()), ' ') + percent + "%  ";
  }
  facts += count_text(bar) + "  " + time_text(bar, elapsed);
  if (!bar.note.empty()) facts += "  " + bar.note;
  const std::size_t used = name_width + characters(facts) + 7;
  constexpr std::size_t kNarrowest = 5;
  constexpr std::size_t kWidest = 30;
  if (bar.total <= 0 || used + kNarrowest > columns) return name + "  " + facts;
  return name + "  " + gauge(fraction(bar), std::min(kWidest, columns - used)) + "  " + facts;
}

/// "client-3: 32/70 (45 %), loss 1.23, 12.0 s, 14.3 s left"
std::string line_text(const BarFacts& bar, double elapsed) {
  std::string text = bar.name + ": " + count_text(bar);
  if (bar.total > 0) {
    text += " (" + std::to_string(static_cast<int>(fraction(bar) * 100.0)) + " %)";
  }
  if (!bar.note.empty()) text += ", " + bar.note;
  // Of what was first heard of when it was done nobody knows how long it took.
  if (bar.total <= 0 || bar.done_before < bar.total) text += ", " + format_duration(elapsed);
  const std::optional<double> left = time_left(bar, elapsed);
  return left ? text + ", " + format_duration(*left) + " left" : text;
}

/// A note comes from training and may not break the line.
std::string one_line(std::string_view text) {
  std::string result(text);
  std::ranges::replace_if(
      result, [](char c) { return static_cast<unsigned char>(c) < 0x20U || c == '\x7f'; }, ' ');
  return result;
}

}  // namespace

struct ProgressBoard::State {
  State(Terminal& shown_on, const Clock& told_by) : terminal(shown_on), clock(told_by) {}

  void draw(Instant now, bool at_once);
  void print_if_due(BarFacts& bar, Instant now);
  void remove(std::uint64_t id);

  Terminal& terminal;
  const Clock& clock;
  std::mutex mutex;
  std::map<std::uint64_t, BarFacts> bars;  ///< in order of creation
  std::uint64_t next_id = 0;
  std::optional<Instant> last_frame;
};

// Called with the mutex held.
void ProgressBoard::State::draw(Instant now, bool at_once) {
  if (!terminal.interactive()) return;
  if (!at_once && last_frame && now - *last_frame < kFrame) return;
  last_frame = now;
  std::size_t name_width = 0;
  for (const auto& [id, bar] : bars) name_width = std::max(name_width, characters(bar.name));
  name_width = std::min(name_width, kMaxNameWidth);
  const auto [columns, rows] = terminal.size();
  const std::size_t shown = std::max<std::size_t>(1, rows / 2);
  std::vector<std::string> block;
  for (const auto& [id, bar] : bars) {
    if (block.size() == shown) {
      block.push_back("... and " + std::to_string(bars.size() - shown) + " more");
      break;
    }
    block.push_back(bar_text(bar, name_width, columns, seconds_since(bar.start, now)));
  }
  terminal.show(block);
}

void ProgressBoard::State::print_if_due(BarFacts& bar, Instant now) {
  if (terminal.interactive() || now - bar.last_line < kBetweenLines) return;
  if (bar.total > 0 && (bar.step - bar.last_line_step) * kLinesPerTotal < bar.total) return;
  bar.last_line = now;
  bar.last_line_step = bar.step;
  bar.is_last_told = bar.total > 0 && bar.step >= bar.total;
  terminal.print(line_text(bar, seconds_since(bar.start, now)));
}

void ProgressBoard::State::remove(std::uint64_t id) {
  const std::scoped_lock lock(mutex);
  if (bars.erase(id) > 0) draw(clock.now(), /*at_once=*/true);
}

ProgressBoard::ProgressBoard() : ProgressBoard(Terminal::standard_error(), system_clock()) {}

ProgressBoard::ProgressBoard(Terminal& terminal, const Clock& clock)
    : state_(std::make_shared<State>(terminal, clock)) {}

ProgressBoard::Bar ProgressBoard::add(const std::string& name, std::int64_t total,
                                      std::int64_t done) {
  const std::scoped_lock lock(state_->mutex);
  const Instant now = state_->clock.now();
  const std::uint64_t id = state_->next_id++;
  state_->bars[id] = {.name = one_line(name),
                      .total = total,
                      .done_before = done,
                      .step = done,
                      .note = {},
                      .start = now,
                      .last_line = now};
  state_->draw(now, /*at_once=*/true);
  return {state_, id};
}

ProgressBoard::Bar& ProgressBoard::Bar::operator=(Bar&& other) noexcept {
  std::swap(state_, other.state_);
  std::swap(id_, other.id_);
  return *this;
}

ProgressBoard::Bar::~Bar() {
  if (state_) state_->remove(id_);
}

void ProgressBoard::Bar::update(std::int64_t step, std::string_view note) {
  const std::scoped_lock lock(state_->mutex);
  const auto found = state_->bars.find(id_);
  if (found == state_->bars.end()) return;
  BarFacts& bar = found->second;
  const Instant now = state_->clock.now();
  bar.step = step;
  if (!note.empty()) bar.note = one_line(note);
  state_->print_if_due(bar, now);
  state_->draw(now, /*at_once=*/false);
}

void ProgressBoard::Bar::finish(std::string_view summary) {
  const std::scoped_lock lock(state_->mutex);
  const auto found = state_->bars.find(id_);
  if (found == state_->bars.end()) return;
  const BarFacts bar = std::move(found->second);
  state_->bars.erase(found);
  const Instant now = state_->clock.now();
  state_->draw(now, /*at_once=*/true);
  if (!summary.empty()) {
    state_->terminal.print(bar.name + ": " + one_line(summary));
  } else if (!state_->terminal.interactive() && !bar.is_last_told) {
    state_->terminal.print(line_text(bar, seconds_since(bar.start, now)));
  }
}

std::string TrainingNote::text(Instant now, const Facts& facts) {
  if (!first_) {
    first_ = now;
    first_tokens_ = facts.num_tokens;
  }
  std::string text = "loss " + format_fixed(facts.loss, 3);
  const double seconds = seconds_since(*first_, now);
  if (facts.num_tokens > first_tokens_ && seconds > 0.0) {
    const double speed = static_cast<double>(facts.num_tokens - first_tokens_) / seconds;
    text += "  " + format_fixed(speed, speed < 10.0 ? 1 : 0) + " tokens/s";
  }
  if (facts.peak_bytes > 0) text += "  " + format_bytes(facts.peak_bytes);
  return text;
}

}  // namespace drystone::core
