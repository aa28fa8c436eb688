// Tokens that only the files beside tokenizer.json name: ids, texts and roles equal those that
// tests/oracles/added_token_cases.py had from transformers.

#include "text/added_token_list.h"

#include <fstream>

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
using Ids = std::vector<TokenId>;

namespace {

const json& fixture() {
  static const json root = json::parse(std::ifstream(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                                     "tests/text/added_token_cases.json"));
  return root;
}

void write_files(const TemporaryFolder& folder, const json& files) {
  for (const auto& [name, content] : files.items()) {
    json whole = content;
    if (name == "tokenizer.json") {
      whole = fixture().at("base");
      whole.update(content);
    }
    write_file(folder, name, whole.is_string() ? whole.get<std::string>() : whole.dump());
  }
}

std::optional<TokenId> role(const SpecialIds& special, const std::string& name) {
  if (name == "bos_token") return special.bos;
  if (name == "eos_token") return special.eos;
  if (name == "unk_token") return special.unk;
  if (name == "sep_token") return special.sep;
  if (name == "pad_token") return special.pad;
  if (name == "cls_token") return special.cls;
  return name == "mask_token" ? special.mask : std::nullopt;
}

/// The fixture's tokenizer.json alone, with another tokenizer_config.json.
std::string refusal(const json& config) {
  const TemporaryFolder folder;
  write_files(folder, {{"tokenizer.json", json::object()}, {"tokenizer_config.json", config}});
  return message_of<ConfigError>([&] { load_tokenizer(folder.path()); });
}

}  // namespace

TEST_CASE("added tokens: files beside the tokenizer name them as in transformers") {
  const json& texts = fixture().at("texts");
  for (const json& form : fixture().at("forms")) {
    CAPTURE(form.at("name").get<std::string>());
    const TemporaryFolder folder;
    write_files(folder, form.at("files"));
    const auto tokenizer = load_tokenizer(folder.path());
    CHECK(tokenizer->vocab_size() == form.at("size").get<std::int64_t>());
    for (const auto& [name, id] : form.at("roles").items()) {
      const auto known = role(tokenizer->special(), name);
      CAPTURE(name);
      if (name != "image_token") CHECK(known == id.get<TokenId>());
    }
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const json& expected = form.at("cases").at(i);
      CAPTURE(texts[i].get<std::string>());
      const Ids ids = tokenizer->encode(texts[i].get<std::string>(), 0, /*add_special=*/false);
      CHECK(ids == expected.at(0).get<Ids>());
      CHECK(tokenizer->decode(expected.at(0).get<Ids>()) == expected.at(1).get<std::string>());
    }
  }
  CHECK(fixture().at("forms").size() >= 35);
}

TEST_CASE("added tokens: an end of texts that no file has is an error") {
  const std::string message = refusal({{"eos_token", "<|im_end|>"}});
  CHECK(contains(message, "tokenizer_config.json: eos_token \"<|im_end|>\" is not in the vocab"));
  CHECK(refusal({{"eos_token", "<|im_end|>"}, {"extra_special_tokens", {"<|im_end|>"}}}).empty());
  const json listed = {{"31", {{"content", "<|im_end|>"}, {"special", true}}}};
  CHECK(refusal({{"eos_token", "<|im_end|>"}, {"added_tokens_decoder", listed}}).empty());
  CHECK(refusal({{"eos_token", "</s>"}}).empty());
  CHECK(refusal({{"eos_token", nullptr}}).empty());
}

TEST_CASE("added tokens: what is no list of tokens is refused with its file") {
  for (const json& config :
       {json{{"added_tokens_decoder", {{"many", {{"content", "<x>"}}}}}},
        json{{"added_tokens_decoder", {{"-1", {{"content", "<x>"}}}}}},
        json{{"added_tokens_decoder", {{"99999999999", {{"content", "<x>"}}}}}},
        json{{"added_tokens_decoder", {{"31", {{"content", 5}}}}}},
        json{{"added_tokens_decoder", {{"31", "<x>"}}}}, json{{"added_tokens_decoder", {1, 2}}}}) {
    CAPTURE(config.dump());
    CHECK(contains(refusal(config), "tokenizer_config.json: "));
  }
}

TEST_CASE("AddedTokenList: the model's id, else the next; the last flags, but special for good") {
  const auto model_id = [](const std::string& token) {
    return token == "known" ? std::optional<TokenId>(3) : std::nullopt;
  };
  AddedTokenList list(model_id, 10);
  list.add({.id = 500, .content = "new", .special = true});
  list.add({.content = "known"});
  list.add({.content = ""});
  list.add({.content = "newer"});
  list.add({.content = "new", .lstrip = true});
  CHECK(list.tokens().size() == 3);
  CHECK(list.id_of("new") == 10);
  CHECK(list.id_of("known") == 3);
  CHECK(list.id_of("newer") == 11);
  CHECK_FALSE(list.id_of("none").has_value());
  CHECK(list.find("new")->lstrip);
  CHECK(list.find("new")->special);
}
