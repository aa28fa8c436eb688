// Finds and reads the tokenizer files of a Hugging Face model folder.

#include <fstream>
#include <map>

#include "core/error.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/utf8.h"
#include "data/wordpiece.h"

namespace drystone::data {

namespace {

using nlohmann::json;

/// {"cls_token": "[CLS]"} or {"cls_token": {"content": "[CLS]", …}}; "" where it is absent.
std::string token_named(const json& object, const std::string& key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) return found->value("content", "");
  return {};
}

json read_json_object(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return json::object();
  json value = read_json(file);
  if (!value.is_object()) throw core::ConfigError(file.string() + ": not a JSON object");
  return value;
}

/// The names of special tokens by role, from the two files that may give them.
class Roles {
 public:
  explicit Roles(const std::filesystem::path& folder)
      : map_(read_json_object(folder / "special_tokens_map.json")),
        config_(read_json_object(folder / "tokenizer_config.json")) {}

  const json& config() const { return config_; }

  std::string token(const std::string& role, const std::string& fallback) const {
    for (const json* source : {&config_, &map_}) {
      if (std::string name = token_named(*source, role + "_token"); !name.empty()) return name;
    }
    return fallback;
  }

 private:
  json map_;
  json config_;
};

SpecialIds resolve_roles(const Roles& roles, const std::map<std::string, TokenId>& ids) {
  const auto id = [&](const char* role, const char* fallback) -> std::optional<TokenId> {
    const auto found = ids.find(roles.token(role, fallback));
    if (found == ids.end()) return std::nullopt;
    return found->second;
  };
  return {.pad = id("pad", "[PAD]"),
          .unk = id("unk", "[UNK]"),
          .cls = id("cls", "[CLS]"),
          .sep = id("sep", "[SEP]"),
          .mask = id("mask", "[MASK]"),
          .bos = id("bos", ""),
          .eos = id("eos", "")};
}

std::map<std::string, TokenId> all_ids(const WordPieceSpec& spec) {
  std::map<std::string, TokenId> ids(spec.vocabulary.begin(), spec.vocabulary.end());
  for (const AddedToken& token : spec.added_tokens) ids.emplace(token.content, token.id);
  return ids;
}

std::map<std::string, TokenId> read_vocabulary(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw core::IoError(file.string() + ": cannot open; check the path and its rights");
  std::map<std::string, TokenId> vocabulary;
  std::string line;
  for (TokenId id = 0; std::getline(stream, line); ++id) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (find_invalid_utf8(line)) {
      throw core::ConfigError(file.string() + ":" + std::to_string(id + 1) +
                              ": not valid UTF-8; fetch the file again");
    }
    vocabulary[line] = id;  // the last of equal lines counts, as in Hugging Face's reader
  }
  return vocabulary;
}

/// Tokens that tokenizer_config.json adds to vocab.txt: {"added_tokens_decoder": {"7": {…}, …}}.
std::vector<AddedToken> configured_tokens(const json& config) {
  std::vector<AddedToken> tokens;
  const json listed = config.value("added_tokens_decoder", json::object());
  for (const auto& [id, entry] : listed.items()) {
    tokens.push_back({.id = static_cast<TokenId>(std::stol(id)),
                      .content = entry.at("content").get<std::string>(),
                      .single_word = entry.value("single_word", false),
                      .lstrip = entry.value("lstrip", false),
                      .rstrip = entry.value("rstrip", false),
                      .normalized = entry.value("normalized", true),
                      .special = entry.value("special", false)});
  }
  return tokens;
}

/// Special tokens are cut out of the text even where no file lists them as added.
void add_special_tokens(const Roles& roles, const std::map<std::string, TokenId>& vocabulary,
                        WordPieceSpec& spec) {
  for (const auto& [role, fallback] : {std::pair{"unk", "[UNK]"},
                                       {"sep", "[SEP]"},
                                       {"pad", "[PAD]"},
                                       {"cls", "[CLS]"},
                                       {"mask", "[MASK]"}}) {
    const std::string token = roles.token(role, fallback);
    const auto found = vocabulary.find(token);
    const bool is_listed =
        std::any_of(spec.added_tokens.begin(), spec.added_tokens.end(),
                    [&](const AddedToken& added) { return added.content == token; });
    if (found == vocabulary.end() || is_listed) continue;
    spec.added_tokens.push_back({.id = found->second, .content = token, .special = true});
  }
}

WordPieceSpec from_vocabulary(const std::filesystem::path& file, const Roles& roles) {
  const json& config = roles.config();
  const auto vocabulary = read_vocabulary(file);
  WordPieceSpec spec;
  spec.vocabulary.assign(vocabulary.begin(), vocabulary.end());
  spec.unk_token = roles.token("unk", "[UNK]");
  spec.normalizer.lowercase = config.value("do_lower_case", true);
  spec.normalizer.handle_chinese_chars = config.value("tokenize_chinese_chars", true);
  const json strip = config.value("strip_accents", json());
  spec.normalizer.strip_accents =
      strip.is_boolean() ? strip.get<bool>() : spec.normalizer.lowercase;
  spec.added_tokens = configured_tokens(config);
  add_special_tokens(roles, vocabulary, spec);
  for (const auto& [role, fallback, side] :
       {std::tuple{"cls", "[CLS]", &spec.prefix}, {"sep", "[SEP]", &spec.suffix}}) {
    const auto found = vocabulary.find(roles.token(role, fallback));
    if (found == vocabulary.end()) {
      throw core::ConfigError(file.string() + ": no " + roles.token(role, fallback) +
                              "; name the " + role + " token in tokenizer_config.json");
    }
    side->push_back(found->second);
  }
  return spec;
}

WordPieceSpec read_spec(const std::filesystem::path& folder, const Roles& roles) {
  const auto tokenizer_json = folder / "tokenizer.json";
  if (std::filesystem::exists(tokenizer_json)) {
    return parse_wordpiece(read_json(tokenizer_json), tokenizer_json);
  }
  const auto vocabulary = folder / "vocab.txt";
  if (std::filesystem::exists(vocabulary)) return from_vocabulary(vocabulary, roles);
  throw core::ConfigError(folder.string() +
                          ": no tokenizer.json and no vocab.txt; copy the model's tokenizer there");
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_folder) {
  try {
    const Roles roles(model_folder);
    WordPieceSpec spec = read_spec(model_folder, roles);
    spec.special = resolve_roles(roles, all_ids(spec));
    return std::make_unique<WordPieceTokenizer>(std::move(spec));
  } catch (const json::exception& error) {
    throw core::ConfigError((model_folder / "tokenizer_config.json").string() + ": malformed (" +
                            error.what() + "); fetch the file again");
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError(model_folder.string() + ": " + error.what() +
                            "; fetch the model again");
  }
}

}  // namespace drystone::data
