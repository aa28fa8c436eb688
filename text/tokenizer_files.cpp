#include "text/tokenizer_files.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <tuple>

#include "core/error.h"
#include "core/files.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace drystone::text {

using nlohmann::json;

namespace {

/// Qwen's way to split; it has no tokenizer.json in its first releases.
constexpr std::string_view kQwenWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Calls `on_line(line, number)` for every line.
void for_each_line(const std::filesystem::path& file, auto&& on_line) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 28;
  std::istringstream lines(core::read_text_file(file, kMostBytes));
  std::string line;
  for (std::int32_t number = 1; std::getline(lines, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (find_invalid_utf8(line)) {
      refuse(file.string() + ":" + std::to_string(number), "not valid UTF-8; fetch the file again");
    }
    on_line(line, number);
  }
}

std::map<std::string, TokenId> read_vocabulary(const std::filesystem::path& file) {
  std::map<std::string, TokenId> vocabulary;
  for_each_line(file, [&vocabulary](const std::string& line, std::int32_t number) {
    vocabulary[line] = number - 1;  // the last of equal lines counts, as in the original
  });
  return vocabulary;
}

std::vector<std::pair<std::string, std::string>> read_merges(const std::filesystem::path& file) {
  std::vector<std::pair<std::string, std::string>> merges;
  for_each_line(file, [&](const std::string& line, std::int32_t number) {
    if (line.empty() || line.starts_with("#version")) return;
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
      refuse(file.string() + ":" + std::to_string(number),
             "a merge is two tokens with a space between; fetch the file again");
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  });
  return merges;
}

std::unique_ptr<const BpeModel> read_bpe(const std::filesystem::path& folder,
                                         const TokenizerRoles& roles) {
  BpeSpec spec;
  const json vocabulary = read_json(folder / "vocab.json");
  for (const auto& [token, id] : vocabulary.items()) {
    spec.vocabulary.emplace_back(token, token_id(id));
  }
  spec.merges = read_merges(folder / "merges.txt");
  if (const std::string unk = roles.token("unk", ""); !unk.empty()) spec.unk_token = unk;
  spec.raw_bytes = true;
  return std::make_unique<BpeModel>(std::move(spec));
}

/// Adds to the specification's tokens what the files beside them name, and fills in the roles.
template <typename Spec>
void complete(AddedTokenList tokens, const TokenizerRoles& roles, AddedBy added_by, Spec& spec) {
  for (AddedToken& token : spec.added_tokens) tokens.add(std::move(token));
  roles.add_to(tokens, /*is_own_list=*/added_by == AddedBy::File);
  spec.special = roles.resolve([&](const std::string& token) { return tokens.id_of(token); });
  spec.added_tokens = tokens.tokens();
}

}  // namespace

std::unique_ptr<Tokenizer> make_wordpiece(WordPieceSpec spec, const TokenizerRoles& roles,
                                          AddedBy added_by) {
  const std::map<std::string, TokenId> ids(spec.vocabulary.begin(), spec.vocabulary.end());
  TokenId size = 0;
  for (const auto& [token, id] : ids) size = std::max(size, id + 1);
  const auto id_of = [&ids](const std::string& token) {
    const auto found = ids.find(token);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  };
  complete(AddedTokenList(id_of, size), roles, added_by, spec);
  return std::make_unique<WordPieceTokenizer>(std::move(spec));
}

std::unique_ptr<Tokenizer> make_pipeline(PipelineSpec spec, const TokenizerRoles& roles,
                                         AddedBy added_by) {
  const TokenVocabulary& vocabulary = spec.model->vocabulary();
  const auto id_of = [&vocabulary](const std::string& token) { return vocabulary.find(token); };
  complete(AddedTokenList(id_of, vocabulary.size()), roles, added_by, spec);
  return std::make_unique<PipelineTokenizer>(std::move(spec));
}

std::unique_ptr<Tokenizer> from_json(const json& root, const std::filesystem::path& file,
                                     const TokenizerRoles& roles) {
  try {
    if (is_bert(root)) return make_wordpiece(parse_wordpiece(root, file), roles, AddedBy::File);
    return make_pipeline(parse_pipeline(root, file), roles, AddedBy::File);
  } catch (const json::exception& error) {
    refuse(file, std::string("malformed tokenizer (") + error.what() + "); fetch the file again");
  } catch (const core::InvalidArgument& error) {
    refuse(file, std::string(error.what()) + "; fetch the file again");
  } catch (const core::ConfigError& error) {
    if (std::string_view(error.what()).starts_with(file.parent_path().string())) throw;
    refuse(file, error.what());
  }
}

std::unique_ptr<Tokenizer> from_vocabulary(const std::filesystem::path& file,
                                           const TokenizerRoles& roles) {
  const json& config = roles.config();
  const auto vocabulary = read_vocabulary(file);
  const auto id_of = [&vocabulary](const std::string& token) {
    const auto found = vocabulary.find(token);
    return found == vocabulary.end() ? std::nullopt : std::optional(found->second);
  };
  WordPieceSpec spec;
  spec.vocabulary.assign(vocabulary.begin(), vocabulary.end());
  spec.unk_token = roles.token("unk", "[UNK]");
  spec.normalizer.lowercase = config.value("do_lower_case", true);
  spec.normalizer.handle_chinese_chars = config.value("tokenize_chinese_chars", true);
  const json& strip = member(config, "strip_accents");
  spec.normalizer.strip_accents =
      strip.is_boolean() ? strip.get<bool>() : spec.normalizer.lowercase;
  roles.add_special_tokens(
      {{"unk", "[UNK]"}, {"sep", "[SEP]"}, {"pad", "[PAD]"}, {"cls", "[CLS]"}, {"mask", "[MASK]"}},
      id_of, spec.added_tokens);
  for (const auto& [role, fallback, side] :
       {std::tuple{"cls", "[CLS]", &spec.prefix}, {"sep", "[SEP]", &spec.suffix}}) {
    const auto id = id_of(roles.token(role, fallback));
    if (!id) {
      refuse(file, "no " + roles.token(role, fallback) + "; name the " + role +
                       " token in tokenizer_config.json");
    }
    side->push_back(*id);
  }
  return make_wordpiece(std::move(spec), roles, AddedBy::Family);
}

std::unique_ptr<Tokenizer> from_merges(const std::filesystem::path& folder,
                                       const TokenizerRoles& roles) {
  const json& config = roles.config();
  const auto kind = config.value("tokenizer_class", "");
  PipelineSpec spec;
  spec.model = read_bpe(folder, roles);
  const auto id_of = [&spec](const std::string& token) {
    return spec.model->vocabulary().find(token);
  };
  const bool is_qwen = kind.starts_with("Qwen2");
  const auto cls = id_of(roles.token("cls", "<s>"));
  const auto sep = id_of(roles.token("sep", "</s>"));
  const bool is_roberta = kind.starts_with("Roberta") || (kind.empty() && cls && sep);
  if (is_qwen) {
    spec.normalizer = make_unicode_normalizer(UnicodeForm::Nfc);
    spec.pre_tokenizers.push_back(make_regex_split(kQwenWords, SplitBehavior::Isolated, false));
  }
  spec.pre_tokenizers.push_back(
      make_byte_level_words({.prefix_space = config.value("add_prefix_space", false),
                             .regex = !is_qwen,
                             .spell = false}));
  spec.decoders.push_back(make_byte_level_decoder());
  if (is_roberta) {
    if (!cls || !sep) refuse(folder / "vocab.json", "no <s> or </s>; fetch the file again");
    spec.prefix = {*cls};
    spec.suffix = {*sep};
    if (id_of("<mask>")) {
      spec.added_tokens.push_back({.content = "<mask>", .lstrip = true, .special = true});
    }
    roles.add_special_tokens({{"bos", "<s>"}, {"eos", "</s>"}, {"unk", "<unk>"}, {"pad", "<pad>"}},
                             id_of, spec.added_tokens);
  }
  roles.add_special_tokens(
      {{"bos", "<|endoftext|>"}, {"eos", "<|endoftext|>"}, {"unk", "<|endoftext|>"}, {"pad", ""}},
      id_of, spec.added_tokens);
  return make_pipeline(std::move(spec), roles, AddedBy::Family);
}

}  // namespace drystone::text
