#include "core/terminal.h"

#include <sstream>

#include <doctest/doctest.h>

using drystone::core::clipped;
using drystone::core::Terminal;

TEST_CASE("Terminal: without a terminal there are lines and no escape codes") {
  std::ostringstream out;
  Terminal terminal(out, /*interactive=*/false, {});
  terminal.show({"bar"});
  terminal.print("line");
  CHECK(out.str() == "line\n");
}

TEST_CASE("Terminal: a line goes above the block, which is drawn anew") {
  std::ostringstream out;
  Terminal terminal(out, /*interactive=*/true, {});
  terminal.show({"bar 1", "bar 2"});
  CHECK(out.str() == "bar 1\nbar 2\n");
  out.str("");
  terminal.print("line");
  CHECK(out.str() == "\x1b[2A\r\x1b[Jline\nbar 1\nbar 2\n");
  out.str("");
  terminal.show({"bar 3"});
  CHECK(out.str() == "\x1b[2A\r\x1b[Jbar 3\n");
  out.str("");
  terminal.show({});
  CHECK(out.str() == "\x1b[1A\r\x1b[J");
  out.str("");
  terminal.print("last");
  CHECK(out.str() == "last\n");
}

TEST_CASE("Terminal: what a peer or a file wrote moves no cursor and turns no text") {
  std::ostringstream out;
  Terminal terminal(out, /*interactive=*/true, {});
  terminal.print("a\x1b[2Jb\xe2\x80\xae");
  CHECK(out.str() == "a\\u001B[2Jb\\u202E\n");
  out.str("");
  terminal.show({"\x1b]0;title\x07"});
  CHECK(out.str() == "\\u001B]0;title\\u0007\n");
}

TEST_CASE("Terminal: block lines never wrap") {
  std::ostringstream out;
  Terminal terminal(out, /*interactive=*/true, {.columns = 6, .rows = 4});
  terminal.show({"123456789"});
  CHECK(out.str() == "12345\n");
}

TEST_CASE("clipped: whole characters only") {
  CHECK(clipped("äöü", 2) == "äö");
  CHECK(clipped("äöü", 3) == "äöü");
  CHECK(clipped("abc", 0) == "");
  CHECK(clipped("", 5) == "");
}
