// The normalizer of tokenizer.json.

#include "text/normalizer_charsmap.h"
#include "text/tokenizer_json.h"

namespace drystone::text {

using nlohmann::json;

namespace {

std::unique_ptr<const Normalizer> parse_replace(const json& node) {
  JsonPattern pattern = parse_pattern(node.at("pattern"));
  std::string with = parse_insertion(node, "content");
  return pattern.is_regex ? make_regex_replace(pattern.text, std::move(with))
                          : make_replace(std::move(pattern.text), std::move(with));
}

std::unique_ptr<const Normalizer> parse_charsmap(const json& node) {
  const auto blob = decode_base64(value_or<std::string>(node, "precompiled_charsmap", {}));
  return make_precompiled(blob.empty() ? Charsmap() : Charsmap(blob));
}

std::unique_ptr<const Normalizer> parse_one(const json& node, const std::filesystem::path& file) {
  const std::string type = type_of(node);
  if (type == "NFC") return make_unicode_normalizer(UnicodeForm::Nfc);
  if (type == "NFD") return make_unicode_normalizer(UnicodeForm::Nfd);
  if (type == "NFKC") return make_unicode_normalizer(UnicodeForm::Nfkc);
  if (type == "NFKD") return make_unicode_normalizer(UnicodeForm::Nfkd);
  if (type == "Lowercase") return make_lowercase();
  if (type == "StripAccents") return make_strip_accents();
  if (type == "Nmt") return make_nmt();
  if (type == "ByteLevel") return make_byte_level();
  if (type == "Replace") return parse_replace(node);
  if (type == "Precompiled") return parse_charsmap(node);
  if (type == "BertNormalizer") return make_bert(parse_bert_normalizer(node));
  if (type == "Prepend") return make_prepend(parse_insertion(node, "prepend"));
  if (type == "Strip") {
    return make_strip(node.at("strip_left").get<bool>(), node.at("strip_right").get<bool>());
  }
  refuse_type(
      file, "normalizer", type,
      "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Nmt, ByteLevel, Replace, Precompiled, "
      "BertNormalizer, Prepend, Strip, Sequence");
}

}  // namespace

std::unique_ptr<const Normalizer> parse_normalizer(const json& component,
                                                   const std::filesystem::path& file) {
  Normalizers all;
  for (const json& node : flattened(component, "normalizers")) {
    all.push_back(parse_one(node, file));
  }
  if (all.empty()) return nullptr;
  if (all.size() == 1) return std::move(all.front());
  return std::make_unique<NormalizerSequence>(std::move(all));
}

}  // namespace drystone::text
