#include "text/token_lines.h"

#include <sstream>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/text/files.h"
#include "text/wordpiece.h"

using namespace drystone::text;

namespace {

WordPieceTokenizer tiny() {
  WordPieceSpec spec;
  spec.vocabulary = {{"[UNK]", 0}, {"[CLS]", 1}, {"[SEP]", 2}, {"un", 3}, {"##able", 4}};
  spec.added_tokens = {{.id = 1, .content = "[CLS]", .special = true},
                       {.id = 2, .content = "[SEP]", .special = true}};
  spec.prefix = {1};
  spec.suffix = {2};
  return WordPieceTokenizer(std::move(spec));
}

}  // namespace

TEST_CASE("token_lines: ids of lines and back") {
  const WordPieceTokenizer tokenizer = tiny();
  std::istringstream text("unable\n\nun un");
  std::ostringstream ids;
  encode_lines(tokenizer, /*add_special=*/true, text, ids);
  CHECK(ids.str() == "[1, 3, 4, 2]\n[1, 2]\n[1, 3, 3, 2]\n");
  std::istringstream again(ids.str());
  std::ostringstream decoded;
  decode_lines(tokenizer, again, decoded);
  CHECK(decoded.str() == "unable\n\nun un\n");
}

TEST_CASE("token_lines: without special tokens; a bad line is named") {
  const WordPieceTokenizer tokenizer = tiny();
  std::istringstream text("\nun");
  std::ostringstream ids;
  encode_lines(tokenizer, /*add_special=*/false, text, ids);
  CHECK(ids.str() == "[]\n[3]\n");
  for (const std::string bad : {"[3]\nthe", "[3]\n[\"a\"]", "[3]\n{}", "[3]\n"}) {
    std::istringstream in(bad + "\n");
    std::ostringstream out;
    const auto message = drystone::test::message_of<drystone::core::Error>(
        [&] { decode_lines(tokenizer, in, out); });
    CAPTURE(bad);
    CHECK(message.starts_with("line 2: "));
  }
}
