// The decoder of tokenizer.json.

#include "text/tokenizer_json.h"

namespace drystone::text {

using nlohmann::json;

namespace {

std::unique_ptr<const TokenDecoder> parse_replace(const json& node) {
  JsonPattern pattern = parse_pattern(node.at("pattern"));
  std::string with = parse_insertion(node, "content");
  return pattern.is_regex ? make_regex_replace_decoder(pattern.text, std::move(with))
                          : make_replace_decoder(std::move(pattern.text), std::move(with));
}

std::unique_ptr<const TokenDecoder> parse_one(const json& node, const std::filesystem::path& file) {
  const std::string type = type_of(node);
  if (type == "ByteLevel") return make_byte_level_decoder();
  if (type == "ByteFallback") return make_byte_fallback();
  if (type == "Fuse") return make_fuse();
  if (type == "Replace") return parse_replace(node);
  if (type == "BPEDecoder") {
    return make_suffix_decoder(parse_insertion(node, "suffix", "</w>"));
  }
  if (type == "WordPiece") {
    return make_wordpiece_decoder(value_or<std::string>(node, "prefix", "##"),
                                  value_or(node, "cleanup", true));
  }
  if (type == "Metaspace") {
    const auto scheme = value_or<std::string>(
        node, "prepend_scheme", value_or(node, "add_prefix_space", true) ? "always" : "never");
    return make_metaspace_decoder(value_or<std::string>(node, "replacement", "\xE2\x96\x81"),
                                  scheme != "never");
  }
  if (type == "Strip") {
    return make_strip_decoder(node.at("content").get<std::string>(),
                              node.at("start").get<std::size_t>(),
                              node.at("stop").get<std::size_t>());
  }
  refuse_type(file, "decoder", type,
              "ByteLevel, ByteFallback, Fuse, Replace, BPEDecoder, WordPiece, Metaspace, Strip, "
              "Sequence");
}

}  // namespace

TokenDecoders parse_decoders(const json& component, const std::filesystem::path& file) {
  TokenDecoders all;
  for (const json& node : flattened(component, "decoders")) all.push_back(parse_one(node, file));
  return all;
}

}  // namespace drystone::text
