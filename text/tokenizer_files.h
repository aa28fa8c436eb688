#pragma once
// The tokenizers of model folders that have no tokenizer.json. Private to this folder: shows the
// JSON library. All throw core::ConfigError naming the file that is malformed or not supported.

#include <filesystem>
#include <memory>
#include <string_view>

#include "text/token_pipeline.h"
#include "text/tokenizer_roles.h"
#include "text/wordpiece.h"

namespace drystone::text {

/// Where a specification's added tokens come from.
enum class AddedBy {
  File,    ///< tokenizer.json lists them
  Family,  ///< the model family has them
};

/// The specification's tokenizer, with the roles filled in and the tokens added that `roles` has.
std::unique_ptr<Tokenizer> make_wordpiece(WordPieceSpec spec, const TokenizerRoles& roles,
                                          AddedBy added_by);
std::unique_ptr<Tokenizer> make_pipeline(PipelineSpec spec, const TokenizerRoles& roles,
                                         AddedBy added_by);

/// tokenizer.json's content.
std::unique_ptr<Tokenizer> from_json(const nlohmann::json& root, const std::filesystem::path& file,
                                     const TokenizerRoles& roles);

/// BERT's vocab.txt.
std::unique_ptr<Tokenizer> from_vocabulary(const std::filesystem::path& file,
                                           const TokenizerRoles& roles);

/// vocab.json and merges.txt: GPT-2, RoBERTa, Qwen2.
std::unique_ptr<Tokenizer> from_merges(const std::filesystem::path& folder,
                                       const TokenizerRoles& roles);

/// The bytes of tokenizer.model, spiece.model or spm.model: SentencePiece, BPE or unigram. Special
/// tokens as the models' tokenizers in Python put them: those of Llama and Mistral by add_bos_token
/// and add_eos_token of tokenizer_config.json, T5's </s>, and [CLS] … [SEP] where the model has
/// these.
std::unique_ptr<Tokenizer> from_sentencepiece(std::string_view bytes,
                                              const std::filesystem::path& file,
                                              const TokenizerRoles& roles);

}  // namespace drystone::text
