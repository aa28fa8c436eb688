// Tokenizers that cost more than they should: each ends in one line.

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/text/files.h"
#include "text/tokenizer.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;

namespace {

/// A tokenizer of the words "a", "e" and "[UNK]" with one component more.
json tokenizer(const char* component, const json& content) {
  json root = {{"model",
                {{"type", "WordLevel"},
                 {"unk_token", "[UNK]"},
                 {"vocab", {{"[UNK]", 0}, {"a", 1}, {"e", 2}}}}}};
  if (component != nullptr) root[component] = content;
  return root;
}

std::unique_ptr<Tokenizer> load(const json& root) {
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.json", root.dump());
  return load_tokenizer(folder.path());
}

std::string refusal(const json& root, const std::string& text = "eee") {
  return message_of<ConfigError>([&] {
    const auto loaded = load(root);
    loaded->decode(loaded->encode(text));
  });
}

json replace(const json& pattern, const std::string& with) {
  return {{"type", "Replace"}, {"pattern", pattern}, {"content", with}};
}

json repeated(const char* key, const json& part, std::size_t times) {
  return {{"type", "Sequence"}, {key, std::vector<json>(times, part)}};
}

}  // namespace

TEST_CASE("tokenizer: what explodes a text is stopped, by rules, expressions and decoders") {
  for (const json& pattern : {json{{"String", "e"}}, json{{"Regex", "e"}}}) {
    const json twice = replace(pattern, "ee");
    CHECK(contains(refusal(tokenizer("normalizer", repeated("normalizers", twice, 40))),
                   "the tokenizer makes more than "));
    CHECK(contains(refusal(tokenizer("decoder", repeated("decoders", twice, 40)), "e"),
                   "the tokenizer makes more than "));
    CHECK(refusal(tokenizer("normalizer", repeated("normalizers", twice, 4))).empty());
    const json much = replace(pattern, std::string(1000, 'a'));
    CHECK(contains(refusal(tokenizer("normalizer", much), std::string(20000, 'e')),
                   "the tokenizer makes more than "));
    CHECK(contains(refusal(tokenizer("normalizer", replace(pattern, std::string(1025, 'a')))),
                   "content is longer than 1 KiB"));
  }
  const json empty = {{"type", "Replace"}, {"pattern", {{"Regex", ""}}}, {"content", "aaaa"}};
  CHECK(contains(refusal(tokenizer("normalizer", repeated("normalizers", empty, 20))),
                 "the tokenizer makes more than "));
  const json prepend = {{"type", "Prepend"}, {"prepend", std::string(2000, 'a')}};
  CHECK(contains(refusal(tokenizer("normalizer", prepend)), "prepend is longer than 1 KiB"));
}

TEST_CASE("tokenizer: thousands of components, long patterns and long tokens are refused") {
  const json lower = {{"type", "Lowercase"}};
  CHECK(refusal(tokenizer("normalizer", repeated("normalizers", lower, 256))).empty());
  CHECK(contains(refusal(tokenizer("normalizer", repeated("normalizers", lower, 257))),
                 "normalizers are more than 256"));
  const json digits = {{"type", "Digits"}};
  CHECK(contains(refusal(tokenizer("pre_tokenizer", repeated("pretokenizers", digits, 1000))),
                 "pretokenizers are more than 256"));
  const json fuse = {{"type", "Fuse"}};
  CHECK(contains(refusal(tokenizer("decoder", repeated("decoders", fuse, 1000))),
                 "decoders are more than 256"));
  const std::string longest(100'000, 'a');
  for (const char* const kind : {"String", "Regex"}) {
    CHECK(contains(refusal(tokenizer("normalizer", replace({{kind, longest}}, "b"))),
                   "a pattern is longer than 64 KiB"));
  }
  json root = tokenizer(nullptr, {});
  root["model"]["vocab"][longest] = 3;
  CHECK(contains(refusal(root), "a token has 100000 bytes, of at most 4096"));
  root = tokenizer("added_tokens", {{{"id", 3}, {"content", longest}}});
  CHECK(contains(refusal(root), "a token has 100000 bytes, of at most 4096"));
  root = tokenizer("normalizer", {{"type", "BertNormalizer"}});
  root["model"]["type"] = "WordPiece";
  root["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  root["model"]["vocab"][longest] = 3;
  CHECK(contains(refusal(root), "a token has 100000 bytes, of at most 4096"));
}

TEST_CASE("tokenizer: a decoder that strips nothing for ever, nesting, ids of 2^40") {
  const json strip = {{"type", "Strip"}, {"content", ""}, {"start", 1ULL << 40}, {"stop", 1}};
  CHECK(refusal(tokenizer("decoder", strip)).empty());
  json nested = {{"type", "Lowercase"}};
  for (int i = 0; i < 20; ++i) nested = {{"type", "Sequence"}, {"normalizers", {nested}}};
  CHECK(contains(refusal(tokenizer("normalizer", nested)), "normalizers are nested too deep"));
  json root = tokenizer(nullptr, {});
  root["model"]["vocab"]["far"] = 1ULL << 40;
  CHECK(contains(refusal(root), "tokenizer.json: "));
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.json", std::string(1'000'000, '[') + std::string(1'000'000, ']'));
  CHECK(contains(message_of<ConfigError>([&] { load_tokenizer(folder.path()); }),
                 "tokenizer.json: nested deeper than"));
}
