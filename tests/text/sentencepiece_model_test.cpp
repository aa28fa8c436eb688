#include "text/sentencepiece_model.h"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/seed.h"
#include "tests/text/files.h"
#include "text/normalizer_charsmap.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::message_of;
using nlohmann::json;

namespace {

std::string fixture(const std::string& name) {
  const json root = json::parse(std::ifstream(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                              "tests/text/tokenizer_cases.json"));
  return decode_base64(root.at("sentencepiece").at(name).at("model").get_ref<const std::string&>());
}

std::string field(int number, std::string_view bytes) {
  std::string message = {static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())};
  return message.append(bytes);
}

std::string piece(std::string_view text, char type) {
  return field(1, field(1, text) + std::string{3 << 3, type});
}

std::string refusal(std::string_view bytes) {
  return message_of<ConfigError>([&] { parse_sentencepiece(bytes); });
}

}  // namespace

TEST_CASE("sentencepiece_model: the fields of real files") {
  const SentencePieceModel bpe = parse_sentencepiece(fixture("bpe"));
  CHECK(bpe.kind == SentencePieceModel::Kind::Bpe);
  CHECK_FALSE(bpe.remove_extra_whitespaces);
  CHECK(bpe.add_dummy_prefix);
  CHECK(bpe.pieces.at(0).type == PieceType::Unknown);
  CHECK(bpe.pieces.at(1).text == "<s>");
  CHECK(bpe.pieces.at(3).type == PieceType::UserDefined);
  CHECK_FALSE(bpe.charsmap.empty());
  CHECK(parse_sentencepiece(fixture("unigram")).kind == SentencePieceModel::Kind::Unigram);
}

TEST_CASE("sentencepiece_model: what is wrong is named") {
  const std::string unk = piece("<unk>", 2);
  CHECK(refusal(unk + piece("a", 1)).empty());
  CHECK(refusal("").find("no pieces") != std::string::npos);
  CHECK(refusal(piece("a", 1)).find("exactly one unknown") != std::string::npos);
  CHECK(refusal(unk + piece("a", 1) + piece("a", 4)).find("two pieces are a") != std::string::npos);
  CHECK(refusal(unk + piece("", 1)).find("empty") != std::string::npos);
  CHECK(refusal(unk + piece("\xFF", 1)).find("not UTF-8") != std::string::npos);
  CHECK(refusal(unk + piece("a", 9)).find("unknown type") != std::string::npos);
  CHECK(refusal(unk + field(2, std::string{3 << 3, 4})).find("neither") != std::string::npos);
  CHECK(refusal("\x0A\x7F").find("truncated") != std::string::npos);
}

TEST_CASE("sentencepiece_model: cut or damaged files are refused or read, never worse") {
  const std::string whole = fixture("unigram");
  std::size_t refused = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    refused += refusal(std::string_view(whole).substr(0, size)).empty() ? 0 : 1;
  }
  CHECK(refused > whole.size() / 2);
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    drystone::core::SplitMix64 random(seed);
    std::string damaged = whole;
    damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    refusal(damaged);
  }
}

TEST_CASE("normalizer_charsmap: damaged tables never lead outside") {
  const std::string whole = parse_sentencepiece(fixture("unigram")).charsmap;
  CHECK(Charsmap(whole).longest("\xEF\xAC\x81x")->value == "fi");
  CHECK_FALSE(Charsmap(whole).longest("x").has_value());
  CHECK_THROWS_AS(Charsmap("abc"), ConfigError);
  CHECK_THROWS_AS(Charsmap(std::string("\xFF\xFF\xFF\x7F", 4) + "abcd"), ConfigError);
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    drystone::core::SplitMix64 random(seed);
    std::string damaged = whole;
    for (int i = 0; i < 8; ++i) {
      damaged[4 + random.below(damaged.size() - 4)] = static_cast<char>(random.below(256));
    }
    try {
      const Charsmap table(damaged);
      for (const char* text : {"\xEF\xAC\x81", "e\xCC\x81", "\xF0\x9F\x98\x80", "abc", "\t\n"}) {
        table.longest(text);
        table.shortest(text);
      }
    } catch (const ConfigError&) {  // its texts are no UTF-8 any more
    }
  }
}
