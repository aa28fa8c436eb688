#include "text/token_stream.h"

#include <doctest/doctest.h>

#include "text/utf8.h"
#include "text/wordpiece.h"

using namespace drystone::text;

namespace {

enum : TokenId { kUnk, kUn, kAff, kAble, kComma, kSep, kReplaced };

WordPieceTokenizer tiny() {
  WordPieceSpec spec;
  spec.vocabulary = {{"[UNK]", kUnk},
                     {"un", kUn},
                     {"##aff", kAff},
                     {"##able", kAble},
                     {",", kComma},
                     {"[SEP]", kSep},
                     {"\xEF\xBF\xBD", kReplaced}};
  spec.added_tokens = {{.id = kSep, .content = "[SEP]", .special = true}};
  return WordPieceTokenizer(std::move(spec));
}

}  // namespace

TEST_CASE("token_stream: pieces joined are the decoded text") {
  const WordPieceTokenizer tokenizer = tiny();
  const std::vector<TokenId> ids = {kUn, kAff, kAble, kComma, kUn, kSep, kSep, kUn};
  StreamDecoder stream(tokenizer);
  CHECK(stream.push(kUn) == "un");
  CHECK(stream.push(kAff) == "aff");
  CHECK(stream.push(kAble) == "able");
  CHECK(stream.push(kComma) == ",");
  CHECK(stream.push(kUn) == " un");
  CHECK(stream.push(kSep).empty());
  CHECK(stream.push(kSep).empty());
  CHECK(stream.push(kUn) == " un");
  CHECK(stream.finish().empty());
  CHECK(tokenizer.decode(ids, true) == "unaffable, un un");
}

TEST_CASE("token_stream: an incomplete character waits, but not for ever") {
  const WordPieceTokenizer tokenizer = tiny();
  StreamDecoder stream(tokenizer);
  CHECK(stream.push(kReplaced).empty());
  CHECK(stream.push(kUn) == "\xEF\xBF\xBD un");
  CHECK(stream.push(kReplaced).empty());
  CHECK(stream.finish() == " \xEF\xBF\xBD");
  std::string all;
  std::vector<TokenId> ids;
  for (int i = 0; i < 100; ++i) {
    ids.push_back(i % 40 == 0 ? kUn : kReplaced);
    all += stream.push(ids.back());
    if (i == 39) CHECK_FALSE(all.empty());
  }
  CHECK(all + stream.finish() == tokenizer.decode(ids, true));
}
