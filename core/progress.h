#pragma once
// Progress of several things at once: bars that move in place on a terminal, sparse lines
// elsewhere.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/terminal.h"

namespace drystone::core {

/// Bars of one program. Every call may come from any thread. On a terminal the bars are redrawn at
/// most ten times a second, as many as fit on half of the screen; elsewhere each bar prints a line
/// at most every five seconds and every ten per cent, and one at its end.
class ProgressBoard {
 public:
  class Bar;

  /// On the process's stderr.
  ProgressBoard();
  /// Both outlive the board and its bars.
  ProgressBoard(Terminal& terminal, const Clock& clock);

  /// A new bar below the others. `total` is the number of steps, 0 when nobody knows; `done` of
  /// them were over before, so that the time that is left is told from the others.
  Bar add(const std::string& name, std::int64_t total, std::int64_t done = 0);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Handle of one bar; outlives its board if it must. A bar that is destroyed before finish()
/// disappears without a word: what it stood for was given up.
class ProgressBoard::Bar {
 public:
  Bar(Bar&& other) noexcept = default;
  Bar& operator=(Bar&& other) noexcept;
  ~Bar();

  /// `step` steps are done; `note` is a few words for the right margin, e.g. "loss 1.23".
  void update(std::int64_t step, std::string_view note = {});
  /// Takes the bar away. Where there is no terminal, or when there is a `summary`, a last line
  /// "NAME: SUMMARY" stays; without a summary it tells steps, time and the last note.
  void finish(std::string_view summary = {});

 private:
  friend class ProgressBoard;
  Bar(std::shared_ptr<State> state, std::uint64_t id) : state_(std::move(state)), id_(id) {}

  std::shared_ptr<State> state_;
  std::uint64_t id_;
};

/// What a training says at the right margin: "loss 1.234  5210 tokens/s  1.2 GB".
class TrainingNote {
 public:
  struct Facts {
    double loss = 0.0;
    std::uint64_t num_tokens = 0;  ///< so far, ascending; 0: not told
    std::uint64_t peak_bytes = 0;  ///< of memory; 0: not told
  };
  /// The speed is that since the first call.
  std::string text(Instant now, const Facts& facts);

 private:
  std::optional<Instant> first_;
  std::uint64_t first_tokens_ = 0;
};

}  // namespace drystone::core
