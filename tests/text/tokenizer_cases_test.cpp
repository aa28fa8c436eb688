// Tiny tokenizers that together use every kind of component: ids and texts equal those that
// tests/oracles/tokenizer_cases.py had from Hugging Face's `tokenizers` and from `sentencepiece`.

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/text/files.h"
#include "text/normalizer_charsmap.h"
#include "text/tokenizer.h"

using namespace drystone::text;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;
using Ids = std::vector<TokenId>;

namespace {

const json& fixture() {
  static const json root = json::parse(std::ifstream(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                                     "tests/text/tokenizer_cases.json"));
  return root;
}

void compare(const Tokenizer& tokenizer, const std::string& name, const json& cases) {
  const json& texts = fixture().at("texts");
  REQUIRE(cases.size() == texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    const auto ids = cases[i].at(0).get<Ids>();
    CAPTURE(name);
    CAPTURE(text);
    CHECK(tokenizer.encode(text, 0, /*add_special=*/false) == ids);
    CHECK(tokenizer.decode(ids) == (cases[i].size() > 1 ? cases[i][1].get<std::string>() : text));
  }
}

/// The fixture's tokenizer.json with its vocabulary put back.
std::unique_ptr<Tokenizer> load_json(const json& entry) {
  json root = entry.at("tokenizer");
  for (const char* part : {"vocab", "merges"}) {
    json& model = root.at("model");
    if (model.contains(part)) model[part] = fixture().at("tables").at(model[part].get<int>());
  }
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.json", root.dump());
  return load_tokenizer(folder.path());
}

std::unique_ptr<Tokenizer> load_model(const std::string& model, const std::string& config = "{}") {
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.model", model);
  write_file(folder, "tokenizer_config.json", config);
  return load_tokenizer(folder.path());
}

std::string model_named(const std::string& name) {
  return decode_base64(
      fixture().at("sentencepiece").at(name).at("model").get_ref<const std::string&>());
}

}  // namespace

TEST_CASE("tokenizers: tiny ones of every kind, against Hugging Face") {
  for (const auto& [name, entry] : fixture().at("json").items()) {
    const auto tokenizer = load_json(entry);
    compare(*tokenizer, name, entry.at("cases"));
    CHECK(tokenizer->encode("the", 0, false) == entry.at("the").at(0).get<Ids>());
    CHECK(tokenizer->encode("the") == entry.at("the").at(1).get<Ids>());
  }
}

TEST_CASE("tokenizers: tiny SentencePiece models, against sentencepiece") {
  for (const auto& [name, entry] : fixture().at("sentencepiece").items()) {
    compare(*load_model(model_named(name)), name, entry.at("cases"));
  }
}

TEST_CASE("tokenizers: every max_length keeps the beginning and the special tokens") {
  for (const std::string name : {"llama", "roberta", "llama3", "t5"}) {
    const auto tokenizer = load_json(fixture().at("json").at(name));
    const std::string text = "the cat's mat <tok> is 12345 hats";
    const Ids all = tokenizer->encode(text);
    const auto num_special = all.size() - tokenizer->encode(text, 0, false).size();
    const Ids none = tokenizer->encode("");
    const std::size_t num_prefix = all.front() == none.front() ? 1 : 0;
    for (std::size_t limit = num_special + 1; limit < all.size(); ++limit) {
      Ids expected(all.begin(),
                   all.begin() + static_cast<std::ptrdiff_t>(limit - (num_special - num_prefix)));
      if (num_special > num_prefix) expected.push_back(all.back());
      CAPTURE(name);
      CAPTURE(limit);
      CHECK(tokenizer->encode(text, static_cast<std::int64_t>(limit)) == expected);
    }
  }
}

TEST_CASE("tokenizers: tokenizer_config.json says which tokens surround a SentencePiece text") {
  const std::string model = model_named("unigram");
  const auto plain = load_model(model);
  CHECK(plain->encode("the").front() == plain->special().bos);
  CHECK(plain->encode("the").back() != plain->special().eos);
  const auto both = load_model(model, R"({"add_bos_token": false, "add_eos_token": true})");
  CHECK(both->encode("the").front() != both->special().bos);
  CHECK(both->encode("the").back() == both->special().eos);
}

TEST_CASE("tokenizers: special tokens that tokenizer_config.json names are cut out of the text") {
  const std::string config = R"({"bos_token": "<s>", "added_tokens_decoder": {
      "500": {"content": "<new>", "special": true, "normalized": false}}})";
  const auto tokenizer = load_model(model_named("bpe"), config);
  CHECK(tokenizer->vocab_size() == 101);
  const Ids ids = tokenizer->encode("a<new><s>", 0, false);
  CHECK(ids[ids.size() - 2] == 100);
  CHECK(ids.back() == tokenizer->special().bos);
  CHECK(tokenizer->token(100) == "<new>");
  CHECK(tokenizer->id_of("<new>") == 100);
}

TEST_CASE("tokenizers: malformed UTF-8 counts as U+FFFD") {
  for (const std::string name : {"llama", "gpt2", "t5"}) {
    const auto tokenizer = load_json(fixture().at("json").at(name));
    CHECK(tokenizer->encode("a\xFF\xC3 b") == tokenizer->encode("a\xEF\xBF\xBD\xEF\xBF\xBD b"));
  }
}
