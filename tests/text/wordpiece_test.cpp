#include "text/wordpiece.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone::text;
using Ids = std::vector<TokenId>;

namespace {

enum : TokenId { kPad, kUnk, kCls, kSep, kUn, kAff, kAble, kWant, kWantEd, kComma, kA, kMore };

WordPieceSpec tiny_spec() {
  WordPieceSpec spec;
  spec.vocabulary = {{"[PAD]", kPad},   {"[UNK]", kUnk}, {"[CLS]", kCls},   {"[SEP]", kSep},
                     {"un", kUn},       {"##aff", kAff}, {"##able", kAble}, {"want", kWant},
                     {"##ed", kWantEd}, {",", kComma},   {"a", kA},         {"##a", kMore}};
  spec.added_tokens = {{.id = kSep, .content = "[SEP]", .special = true}};
  spec.prefix = {kCls};
  spec.suffix = {kSep};
  return spec;
}

}  // namespace

TEST_CASE("wordpiece: greedy longest match, a whole word is unknown if its end is") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  CHECK(tokenizer.encode("UNaffable, wanted", 0, false) ==
        Ids{kUn, kAff, kAble, kComma, kWant, kWantEd});
  CHECK(tokenizer.encode("unaffablex want", 0, false) == Ids{kUnk, kWant});
  CHECK(tokenizer.encode("", 0, false).empty());
  CHECK(tokenizer.encode(" \t\n ", 0, true) == Ids{kCls, kSep});
}

TEST_CASE("wordpiece: a word longer than the limit is unknown, however it could be split") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  CHECK(tokenizer.encode(std::string(100, 'a'), 0, false).size() == 100);
  CHECK(tokenizer.encode(std::string(101, 'a'), 0, false) == Ids{kUnk});
}

TEST_CASE("wordpiece: every max_length gives a prefix of the uncut ids, specials kept") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  const std::string text = "unaffable, [SEP] wanted wanted unaffable, a";
  const Ids full = tokenizer.encode(text, 0, false);
  for (std::int64_t limit = 2; limit < 20; ++limit) {
    CAPTURE(limit);
    const auto kept = std::min(static_cast<std::int64_t>(full.size()), limit - 2);
    Ids expected = {kCls};
    expected.insert(expected.end(), full.begin(), full.begin() + kept);
    expected.push_back(kSep);
    CHECK(tokenizer.encode(text, limit, true) == expected);
  }
  CHECK(tokenizer.encode(text, 3, false) == Ids(full.begin(), full.begin() + 3));
}

TEST_CASE("wordpiece: encode_into appends") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  Ids ids = {7};
  tokenizer.encode_into("a", 3, true, ids);
  tokenizer.encode_into("want a", 3, true, ids);
  CHECK(ids == Ids{7, kCls, kA, kSep, kCls, kWant, kSep});
}

TEST_CASE("wordpiece: special tokens in the text are themselves, in raw spelling only") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  CHECK(tokenizer.encode("a[SEP]a", 0, false) == Ids{kA, kSep, kA});
  CHECK(tokenizer.encode("[sep]", 0, false) == Ids{kUnk, kUnk, kUnk});
}

TEST_CASE("wordpiece: normalized added tokens match normalized text") {
  WordPieceSpec spec = tiny_spec();
  spec.added_tokens.push_back({.id = 12, .content = "Yester\xC3\xA9", .normalized = true});
  const WordPieceTokenizer tokenizer(std::move(spec));
  CHECK(tokenizer.encode("a yESTERe\xCC\x81 a", 0, false) == Ids{kA, 12, kA});
  CHECK(tokenizer.vocab_size() == 13);
  CHECK(tokenizer.decode(Ids{kA, 12}, true) == "a yestere");  // as matched, not as written
}

TEST_CASE("wordpiece: decoding joins pieces, skips specials and unknown ids, cleans up") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  const Ids ids = {kCls, kUn, kAff, kAble, kComma, 99, -1, kWant, kSep};
  CHECK(tokenizer.decode(ids, true) == "[CLS] unaffable, want");  // only [SEP] is declared special
  CHECK(tokenizer.decode(ids, false) == "[CLS] unaffable, want [SEP]");
}

TEST_CASE("wordpiece: tokens by id and ids by token") {
  const WordPieceTokenizer tokenizer(tiny_spec());
  CHECK(tokenizer.token(kAff) == "##aff");
  CHECK(tokenizer.token(-1).empty());
  CHECK(tokenizer.token(99).empty());
  CHECK(tokenizer.id_of("##aff") == kAff);
  CHECK_FALSE(tokenizer.id_of("nothing").has_value());
}

TEST_CASE("wordpiece: refuses bad vocabularies and lengths") {
  using drystone::core::InvalidArgument;
  WordPieceSpec no_unk = tiny_spec();
  no_unk.unk_token = "<unk>";
  CHECK_THROWS_AS(WordPieceTokenizer(std::move(no_unk)), InvalidArgument);
  WordPieceSpec clash = tiny_spec();
  clash.vocabulary.emplace_back("other", kWant);
  CHECK_THROWS_AS(WordPieceTokenizer(std::move(clash)), InvalidArgument);
  WordPieceSpec negative = tiny_spec();
  negative.vocabulary.emplace_back("other", -3);
  CHECK_THROWS_AS(WordPieceTokenizer(std::move(negative)), InvalidArgument);
  const WordPieceTokenizer tokenizer(tiny_spec());
  CHECK_THROWS_AS(tokenizer.encode("a", 1, true), InvalidArgument);
  CHECK_THROWS_AS(tokenizer.encode("a", -1, true), InvalidArgument);
}
