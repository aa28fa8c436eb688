#include "core/progress.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace drystone;
using namespace std::chrono_literals;
using core::ProgressBoard;

namespace {

struct Screen {
  std::ostringstream out;
  core::ManualClock clock;
  core::Terminal terminal;
  ProgressBoard board{terminal, clock};

  explicit Screen(bool interactive, core::TerminalSize size = {.columns = 80, .rows = 24})
      : terminal(out, interactive, size) {}

  /// What was written since the last call.
  std::string drain() {
    std::string text = out.str();
    out.str("");
    return text;
  }
  /// The same without the escape codes that move the cursor.
  std::string visible() {
    const std::string text = drain();
    const std::size_t clear = text.rfind("\x1b[J");
    return clear == std::string::npos ? text : text.substr(clear + 3);
  }
};

std::size_t lines_in(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

}  // namespace

TEST_CASE("progress: a bar tells share, steps, time passed and left, and the note") {
  Screen screen(/*interactive=*/true);
  auto bar = screen.board.add("client-3", 70);
  CHECK(screen.visible() == "client-3  [>                             ]    0%  0/70  0:00\n");
  screen.clock.advance(12s);
  bar.update(35, "loss 1.23");
  CHECK(screen.visible() ==
        "client-3  [===============>              ]   50%  35/70  0:12 < 0:12  loss 1.23\n");
  screen.clock.advance(3s);
  bar.update(70);
  CHECK(screen.visible() ==
        "client-3  [==============================]  100%  70/70  0:15  loss 1.23\n");
}

TEST_CASE("progress: what is left is told from the steps that the bar has seen") {
  Screen screen(/*interactive=*/true);
  auto bar = screen.board.add("a", 11, /*done=*/1);
  CHECK(screen.visible().find("1/11  0:00\n") != std::string::npos);
  screen.clock.advance(5s);
  bar.update(2);
  CHECK(screen.visible().find("2/11  0:05 < 0:45\n") != std::string::npos);
}

TEST_CASE("progress: a training's note has its loss, its speed since the first note, its memory") {
  core::TrainingNote note;
  CHECK(note.text(3s, {.loss = 1.23456}) == "loss 1.235");
  CHECK(note.text(4s, {.loss = 0.5, .num_tokens = 400}) == "loss 0.500  400 tokens/s");
  CHECK(note.text(5s, {.loss = 0.5, .num_tokens = 3000, .peak_bytes = 1'200'000'000}) ==
        "loss 0.500  1500 tokens/s  1.2 GB");
  CHECK(note.text(1003s, {.loss = 0.5, .num_tokens = 5000}) == "loss 0.500  5.0 tokens/s");
  core::TrainingNote evaluates;
  CHECK(evaluates.text(1s, {.loss = 0.5, .num_tokens = 100}) == "loss 0.500");
}

TEST_CASE("progress: an unknown total has no gauge; hours show when there are any") {
  Screen screen(/*interactive=*/true);
  auto bar = screen.board.add("tokens", 0);
  screen.drain();
  screen.clock.advance(2h + 65s);
  bar.update(12);
  CHECK(screen.visible() == "tokens  12  2:01:05\n");
}

TEST_CASE("progress: at most ten frames a second") {
  Screen screen(/*interactive=*/true);
  auto bar = screen.board.add("a", 1000);
  screen.drain();
  std::size_t frames = 0;
  for (std::int64_t step = 1; step <= 1000; ++step) {
    screen.clock.advance(1ms);
    bar.update(step);
    if (!screen.drain().empty()) ++frames;
  }
  CHECK(frames == 10);
}

TEST_CASE("progress: names line up, and bars leave when they are done") {
  Screen screen(/*interactive=*/true);
  auto first = screen.board.add("client-1", 2);
  std::optional second = screen.board.add("evaluator", 2);
  const std::string both = screen.visible();
  CHECK(both.find("client-1   [") != std::string::npos);
  CHECK(both.find("evaluator  [") != std::string::npos);
  first.finish();
  const std::string one = screen.visible();
  CHECK(one.find("client-1") == std::string::npos);
  CHECK(one.starts_with("evaluator  ["));
  second.reset();  // given up: nothing is said
  CHECK(screen.visible().empty());
}

TEST_CASE("progress: a summary stays above the bars") {
  Screen screen(/*interactive=*/true);
  auto first = screen.board.add("a", 2);
  auto second = screen.board.add("b", 2);
  first.finish("uploaded 1.2 MB");
  const std::string text = screen.visible();
  CHECK(text.starts_with("a: uploaded 1.2 MB\nb  ["));
  first.update(2);  // finished: ignored
  first.finish("again");
  CHECK(screen.drain().empty());
}

TEST_CASE("progress: no line is wider than the screen, no block taller than half of it") {
  for (std::size_t columns = 1; columns < 100; ++columns) {
    CAPTURE(columns);
    Screen screen(/*interactive=*/true, {.columns = columns, .rows = 8});
    std::vector<ProgressBoard::Bar> bars;
    for (int i = 0; i < 10; ++i) {
      bars.push_back(screen.board.add("größere-client-" + std::to_string(i), 100));
    }
    screen.clock.advance(1s);
    screen.drain();
    bars[0].update(50, "loss 1.234");
    std::istringstream text(screen.visible());
    std::size_t lines = 0;
    for (std::string line; std::getline(text, line); ++lines) {
      CHECK(core::clipped(line, columns).size() == line.size());
    }
    CHECK(lines == 5);  // four bars and "... and 6 more"
  }
}

TEST_CASE("progress: without a terminal a line every ten per cent, but not within five seconds") {
  Screen screen(/*interactive=*/false);
  auto bar = screen.board.add("client-1", 100);
  for (std::int64_t step = 1; step <= 100; ++step) {  // 100 s: one line each 10 s
    screen.clock.advance(1s);
    bar.update(step, "loss 0.5");
  }
  const std::string slow = screen.drain();
  CHECK(lines_in(slow) == 10);
  CHECK(slow.starts_with("client-1: 10/100 (10 %), loss 0.5, 10.0 s, 1 min 30 s left\n"));
  CHECK(slow.find('\x1b') == std::string::npos);
  CHECK(slow.ends_with("client-1: 100/100 (100 %), loss 0.5, 1 min 40 s\n"));
  bar.finish();
  CHECK(screen.drain().empty());  // it was told

  auto fast = screen.board.add("client-2", 100);
  for (std::int64_t step = 1; step <= 100; ++step) {
    screen.clock.advance(10ms);
    fast.update(step);
  }
  CHECK(screen.drain().empty());
  fast.finish("trained in 1.0 s");
  CHECK(screen.drain() == "client-2: trained in 1.0 s\n");
}

TEST_CASE("progress: what was first heard of when it was done has no time of its own") {
  Screen screen(/*interactive=*/false);
  auto bar = screen.board.add("client-1", 1, /*done=*/1);
  bar.update(1, "loss 0.5");
  bar.finish();
  CHECK(screen.drain() == "client-1: 1/1 (100 %), loss 0.5\n");
}

TEST_CASE("progress: notes and names cannot break the line") {
  Screen screen(/*interactive=*/false);
  auto bar = screen.board.add("a\nb", 10);
  screen.clock.advance(6s);
  bar.update(5, "x\n\x1b[2Jy");
  CHECK(screen.drain() == "a b: 5/10 (50 %), x  [2Jy, 6.0 s, 6.0 s left\n");
}

TEST_CASE("progress: more steps than expected count as all") {
  Screen screen(/*interactive=*/true);
  auto bar = screen.board.add("a", 10);
  screen.clock.advance(1s);
  screen.drain();
  bar.update(15);
  CHECK(screen.visible().find("100%  15/10") != std::string::npos);
}

TEST_CASE("progress: bars may move, and outlive their board") {
  std::ostringstream out;
  const core::ManualClock clock;
  core::Terminal terminal(out, /*interactive=*/true, {});
  std::vector<ProgressBoard::Bar> bars;
  {
    ProgressBoard board(terminal, clock);
    bars.push_back(board.add("a", 1));
    bars.push_back(board.add("b", 1));
    bars[0] = std::move(bars[1]);
    bars.pop_back();
  }
  out.str("");
  bars[0].finish("done");
  CHECK(out.str().ends_with("b: done\n"));
}

TEST_CASE("progress: threads may share a board") {
  std::ostringstream out;
  const core::SystemClock clock;
  core::Terminal terminal(out, /*interactive=*/false, {});
  ProgressBoard board(terminal, clock);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&board, t] {
        for (int round = 0; round < 5; ++round) {
          auto bar = board.add("client-" + std::to_string(t), 50);
          for (std::int64_t step = 1; step <= 50; ++step) bar.update(step, "note");
          bar.finish("done");
        }
      });
    }
  }
  CHECK(lines_in(out.str()) == 20);
}
