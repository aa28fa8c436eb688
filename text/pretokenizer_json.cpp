// The pre-tokenizer of tokenizer.json.

#include "text/tokenizer_json.h"

namespace drystone::text {

using nlohmann::json;

namespace {

SplitBehavior parse_behavior(const json& node, const std::filesystem::path& file) {
  const auto name = value_or<std::string>(node, "behavior", "Isolated");
  if (name == "Removed") return SplitBehavior::Removed;
  if (name == "Isolated") return SplitBehavior::Isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::MergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::MergedWithNext;
  if (name == "Contiguous") return SplitBehavior::Contiguous;
  refuse_type(file, "split behavior", name,
              "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

std::unique_ptr<const PreTokenizer> parse_split(const json& node,
                                                const std::filesystem::path& file) {
  JsonPattern pattern = parse_pattern(node.at("pattern"));
  const SplitBehavior behavior = parse_behavior(node, file);
  const bool invert = value_or(node, "invert", false);
  return pattern.is_regex ? make_regex_split(pattern.text, behavior, invert)
                          : make_text_split(std::move(pattern.text), behavior, invert);
}

std::unique_ptr<const PreTokenizer> parse_metaspace(const json& node,
                                                    const std::filesystem::path& file) {
  MetaspaceOptions options;
  options.replacement = parse_insertion(node, "replacement", "\xE2\x96\x81");
  options.split = value_or(node, "split", true);
  const auto scheme = value_or<std::string>(
      node, "prepend_scheme", value_or(node, "add_prefix_space", true) ? "always" : "never");
  if (scheme == "first") {
    options.prepend = PrependScheme::First;
  } else if (scheme == "never") {
    options.prepend = PrependScheme::Never;
  } else if (scheme != "always") {
    refuse_type(file, "prepend_scheme", scheme, "first, never, always");
  }
  return make_metaspace(std::move(options));
}

std::unique_ptr<const PreTokenizer> parse_one(const json& node, bool raw_bytes,
                                              const std::filesystem::path& file) {
  const std::string type = type_of(node);
  if (type == "ByteLevel") {
    return make_byte_level_words({.prefix_space = value_or(node, "add_prefix_space", true),
                                  .regex = value_or(node, "use_regex", true),
                                  .spell = !raw_bytes});
  }
  if (type == "Split") return parse_split(node, file);
  if (type == "Metaspace") return parse_metaspace(node, file);
  if (type == "Whitespace") return make_whitespace();
  if (type == "WhitespaceSplit") return make_whitespace_split();
  if (type == "BertPreTokenizer") return make_bert_words();
  if (type == "Punctuation") return make_punctuation(parse_behavior(node, file));
  if (type == "Digits") return make_digits(value_or(node, "individual_digits", false));
  if (type == "CharDelimiterSplit") {
    return make_text_split(node.at("delimiter").get<std::string>(), SplitBehavior::Removed, false);
  }
  const auto length = value_or<std::size_t>(node, "length", 5);
  if (type == "FixedLength" && length > 0) return make_fixed_length(length);
  refuse_type(file, "pre_tokenizer", type,
              "ByteLevel, Split, Metaspace, Whitespace, WhitespaceSplit, BertPreTokenizer, "
              "Punctuation, Digits, CharDelimiterSplit, FixedLength, Sequence");
}

}  // namespace

PreTokenizers parse_pre_tokenizers(const json& component, bool raw_bytes,
                                   const std::filesystem::path& file) {
  PreTokenizers all;
  const auto nodes = flattened(component, "pretokenizers");
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    all.push_back(parse_one(nodes[i], raw_bytes && i + 1 == nodes.size(), file));
  }
  return all;
}

}  // namespace drystone::text
