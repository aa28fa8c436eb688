#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/text/files.h"
#include "tests/text/llama_cpp_reference.h"
#include "text/tokenizer.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;
using Ids = std::vector<TokenId>;

namespace {

const std::filesystem::path kShared =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "../shared/data/tokenizers";

json tiny_json() {
  return json::parse(R"({
    "added_tokens": [{"id": 2, "content": "[CLS]", "special": true, "normalized": false}],
    "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
      "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                         "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100,
              "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "hi": 4, "##s": 5}}})");
}

std::string refusal(const json& root) {
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.json", root.dump());
  return message_of<ConfigError>([&] { load_tokenizer(folder.path()); });
}

constexpr const char* kVocabTxt = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nhi\n##s\nHi\n";

}  // namespace

TEST_CASE("load_tokenizer: tokenizer.json") {
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.json", tiny_json().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->encode("His [CLS]") == Ids{2, 4, 5, 2, 3});
  CHECK(tokenizer->vocab_size() == 6);
  CHECK(tokenizer->special().pad == 0);
  CHECK(tokenizer->special().cls == 2);
  CHECK(tokenizer->special().sep == 3);
  CHECK_FALSE(tokenizer->special().mask.has_value());
}

TEST_CASE("load_tokenizer: its truncation and padding do not count, BertProcessing does") {
  json root = tiny_json();
  root["truncation"] = {{"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}};
  root["post_processor"] = {
      {"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}};
  const TemporaryFolder folder;
  write_file(folder, "tokenizer.json", root.dump());
  CHECK(load_tokenizer(folder.path())->encode("hi hi hi") == Ids{2, 4, 4, 4, 3});
}

TEST_CASE("load_tokenizer: vocab.txt with tokenizer_config.json") {
  const TemporaryFolder folder;
  write_file(folder, "vocab.txt", kVocabTxt);
  CHECK(load_tokenizer(folder.path())->encode("Hi[SEP]") == Ids{2, 4, 3, 3});
  write_file(folder, "tokenizer_config.json",
             R"({"do_lower_case": false, "pad_token": {"content": "[UNK]"}})");
  const auto cased = load_tokenizer(folder.path());
  CHECK(cased->encode("Hi") == Ids{2, 6, 3});
  CHECK(cased->special().pad == 1);
}

TEST_CASE("load_tokenizer: what is not supported is refused by name") {
  for (const auto& [component, type] : {std::pair{"model", "Lattice"},
                                        {"normalizer", "Rot13"},
                                        {"pre_tokenizer", "UnicodeScripts"},
                                        {"post_processor", "Shuffle"},
                                        {"decoder", "CTC"}}) {
    json root = tiny_json();
    root[component]["type"] = type;
    const std::string message = refusal(root);
    CAPTURE(message);
    CHECK(contains(message, "tokenizer.json: " + std::string(component)));
    CHECK(contains(message, type + std::string(" is not supported; those that work: ")));
    CHECK(contains(message, "Sequence") == (std::string(component) != "model"));
  }
}

TEST_CASE("load_tokenizer: malformed files are configuration errors that name the file") {
  const TemporaryFolder empty;
  CHECK(contains(message_of<ConfigError>([&] { load_tokenizer(empty.path()); }),
                 "no tokenizer.json, tokenizer.model, vocab.txt or vocab.json"));
  const TemporaryFolder broken;
  const auto file = write_file(broken, "tokenizer.json", "{\"model\": ");
  CHECK(contains(message_of<ConfigError>([&] { load_tokenizer(broken.path()); }), file.string()));
  json no_vocab = tiny_json();
  no_vocab["model"].erase("vocab");
  CHECK(contains(refusal(no_vocab), "malformed tokenizer"));
  json twice = tiny_json();
  twice["model"]["vocab"]["other"] = 4;
  CHECK(contains(refusal(twice), "two tokens have the id 4"));
  json array = json::array();
  CHECK_FALSE(refusal(array).empty());
  const TemporaryFolder latin;
  write_file(latin, "vocab.txt",
             "[PAD]\nf\xFC"
             "r\n");
  CHECK(contains(message_of<ConfigError>([&] { load_tokenizer(latin.path()); }), "vocab.txt:2:"));
}

TEST_CASE("load_tokenizer: hard cases of a committed fixture equal Hugging Face's ids") {
  std::ifstream stream(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                       "tests/text/wordpiece_cases.json");
  REQUIRE(stream.good());
  const json fixture = json::parse(stream);
  for (const auto& [name, group] : fixture.at("groups").items()) {
    json root = group.at("tokenizer");
    root["model"]["vocab"] = fixture.at("vocabulary");
    const TemporaryFolder folder;
    write_file(folder, "tokenizer.json", root.dump());
    const auto tokenizer = load_tokenizer(folder.path());
    for (const json& row : group.at("cases")) {
      CAPTURE(name);
      CAPTURE(row.dump(-1, ' ', true));
      const auto text = row.at(0).get<std::string>();
      CHECK(tokenizer->encode(text, 0, true) == row.at(1).get<Ids>());
      CHECK(tokenizer->decode(row.at(1).get<Ids>()) == row.at(2).get<std::string>());
    }
  }
}

TEST_CASE("load_tokenizer: bert-base-uncased gives the ids of the shared references") {
  const auto vocabulary = kShared / "bert-base-uncased";
  if (!std::filesystem::exists(vocabulary)) {
    MESSAGE("skipped: no ../shared/data here");
    return;
  }
  const auto tokenizer = load_tokenizer(vocabulary);
  std::ifstream lines(kShared / "expected/hf/bert-base-uncased.jsonl");
  std::size_t compared = 0;
  for (std::string line; std::getline(lines, line); ++compared) {
    const json row = json::parse(line);
    CAPTURE(line);
    const auto text = row.at("text").get<std::string>();
    const auto ids = row.at("ids").get<Ids>();
    CHECK(tokenizer->encode(text, 0, false) == ids);
    CHECK(tokenizer->encode(text, 0, true) == row.at("ids_special").get<Ids>());
    CHECK(tokenizer->decode(ids) == row.at("decoded").get<std::string>());
  }
  CHECK(compared == 69);
}

TEST_CASE("load_tokenizer: bert-base-uncased gives llama.cpp's ids") {
  const auto folder = kShared / "expected/llama.cpp";
  if (!std::filesystem::exists(folder)) {
    MESSAGE("skipped: no ../shared/data here");
    return;
  }
  const auto tokenizer = load_tokenizer(kShared / "bert-base-uncased");
  drystone::test::check_llama_cpp_ids(*tokenizer, folder, "bert-bge");
}
