#include "data/tokenizer_files.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <tuple>

#include "core/error.h"
#include "core/files.h"
#include "data/tokenizer_json.h"
#include "data/utf8.h"

namespace drystone::data {

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

}  // namespace

std::unique_ptr<Tokenizer> make_wordpiece(WordPieceSpec spec, const TokenizerRoles& roles) {
  std::map<std::string, TokenId> ids(spec.vocabulary.begin(), spec.vocabulary.end());
  for (const AddedToken& token : spec.added_tokens) ids.emplace(token.content, token.id);
  spec.special = roles.resolve([&ids](const std::string& token) {
    const auto found = ids.find(token);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  });
  return std::make_unique<WordPieceTokenizer>(std::move(spec));
}

std::unique_ptr<Tokenizer> make_pipeline(PipelineSpec spec, const TokenizerRoles& roles) {
  spec.special = roles.resolve([&spec](const std::string& token) {
    const auto added =
        std::find_if(spec.added_tokens.begin(), spec.added_tokens.end(),
                     [&token](const AddedToken& one) { return one.content == token; });
    return added == spec.added_tokens.end() ? spec.model->vocabulary().find(token)
                                            : std::optional(added->id);
  });
  return std::make_unique<PipelineTokenizer>(std::move(spec));
}

std::unique_ptr<Tokenizer> from_json(const json& root, const std::filesystem::path& file,
                                     const TokenizerRoles& roles) {
  try {
    if (is_bert(root)) return make_wordpiece(parse_wordpiece(root, file), roles);
    return make_pipeline(parse_pipeline(root, file), roles);
  } catch (const json::exception& error) {
    refuse(file, std::string("malformed tokenizer (") + error.what() + "); fetch the file again");
  } catch (const core::InvalidArgument& error) {
    refuse(file, std::string(error.what()) + "; fetch the file again");
  } catch (const core::ConfigError& error) {
    if (std::string_view(error.what()).starts_with(file.string())) throw;
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
  spec.added_tokens = roles.added_tokens();
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
  return make_wordpiece(std::move(spec), roles);
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
  spec.added_tokens = roles.added_tokens();
  if (is_roberta) {
    if (!cls || !sep) refuse(folder / "vocab.json", "no <s> or </s>; fetch the file again");
    spec.prefix = {*cls};
    spec.suffix = {*sep};
    if (const auto mask = id_of("<mask>"); mask && spec.added_tokens.empty()) {
      spec.added_tokens.push_back(
          {.id = *mask, .content = "<mask>", .lstrip = true, .special = true});
    }
    roles.add_special_tokens({{"bos", "<s>"}, {"eos", "</s>"}, {"unk", "<unk>"}, {"pad", "<pad>"}},
                             id_of, spec.added_tokens);
  }
  roles.add_special_tokens(
      {{"bos", "<|endoftext|>"}, {"eos", "<|endoftext|>"}, {"unk", "<|endoftext|>"}, {"pad", ""}},
      id_of, spec.added_tokens);
  return make_pipeline(std::move(spec), roles);
}

}  // namespace drystone::data
