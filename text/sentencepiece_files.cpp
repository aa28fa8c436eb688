// SentencePiece model files as tokenizers.

#include <algorithm>

#include "core/error.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_json.h"

namespace drystone::text {

namespace {

/// As transformers' tokenizers in Python put special tokens around a text.
void add_surroundings(const std::filesystem::path& file, const TokenizerRoles& roles,
                      PipelineSpec& spec) {
  const auto& config = roles.config();
  const auto id_of = [&spec](const std::string& token) {
    return spec.model->vocabulary().find(token);
  };
  const auto cls = id_of(roles.token("cls", "[CLS]"));
  const auto sep = id_of(roles.token("sep", "[SEP]"));
  const auto bos = id_of(roles.token("bos", "<s>"));
  const auto eos = id_of(roles.token("eos", "</s>"));
  if (cls && sep) {
    spec.prefix = {*cls};
    spec.suffix = {*sep};
    if (!id_of("[MASK]") && !roles.lists("[MASK]")) {  // DeBERTa's comes behind the pieces
      spec.added_tokens.push_back({.content = "[MASK]", .special = true});
    }
    return;
  }
  const bool is_t5 =
      config.value("tokenizer_class", "").starts_with("T5") || file.filename() == "spiece.model";
  if (bos && value_or(config, "add_bos_token", !is_t5)) spec.prefix = {*bos};
  if (eos && value_or(config, "add_eos_token", is_t5)) spec.suffix = {*eos};
}

PipelineSpec build(std::string_view bytes, const std::filesystem::path& file,
                   const TokenizerRoles& roles) {
  const SentencePieceModel model = parse_sentencepiece(bytes);
  PipelineSpec spec;
  spec.normalizer = make_sentencepiece_normalizer(model, value_or(roles.config(), "legacy", true));
  spec.model = make_sentencepiece_encoder(model);
  spec.decoders.push_back(make_sentencepiece_decoder(model));
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == PieceType::Control) spec.hidden_tokens.push_back(piece.text);
  }
  add_surroundings(file, roles, spec);
  const auto id_of = [&spec](const std::string& token) {
    return spec.model->vocabulary().find(token);
  };
  roles.add_special_tokens(
      {{"bos", ""}, {"eos", ""}, {"unk", ""}, {"pad", ""}, {"cls", ""}, {"sep", ""}, {"mask", ""}},
      id_of, spec.added_tokens);
  return spec;
}

}  // namespace

std::unique_ptr<Tokenizer> from_sentencepiece(std::string_view bytes,
                                              const std::filesystem::path& file,
                                              const TokenizerRoles& roles) {
  try {
    return make_pipeline(build(bytes, file, roles), roles, AddedBy::Family);
  } catch (const core::InvalidArgument& error) {
    refuse(file, std::string(error.what()) + "; fetch the file again");
  } catch (const core::ConfigError& error) {
    refuse(file, std::string(error.what()) + "; fetch the file again");
  }
}

}  // namespace drystone::text
