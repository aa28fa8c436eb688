// Finds and reads the tokenizer files of a Hugging Face model folder.

#include <map>

#include "core/error.h"
#include "data/tokenizer.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_json.h"

namespace drystone::data {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> from_json(const fs::path& file, const TokenizerRoles& roles) {
  const json root = read_json(file);
  try {
    if (is_bert(root)) return make_wordpiece(parse_wordpiece(root, file), roles);
    return make_pipeline(parse_pipeline(root, file), roles);
  } catch (const json::exception& error) {
    refuse(file, std::string("malformed tokenizer (") + error.what() + "); fetch the file again");
  }
}

std::unique_ptr<Tokenizer> load(const fs::path& folder) {
  const TokenizerRoles roles(folder);
  if (fs::exists(folder / "tokenizer.json")) return from_json(folder / "tokenizer.json", roles);
  for (const char* name : {"tokenizer.model", "spiece.model", "spm.model"}) {
    if (fs::exists(folder / name)) return from_sentencepiece(folder / name, roles);
  }
  if (fs::exists(folder / "vocab.txt")) return from_vocabulary(folder / "vocab.txt", roles);
  if (fs::exists(folder / "vocab.json")) return from_merges(folder, roles);
  throw core::ConfigError(folder.string() +
                          ": no tokenizer.json, tokenizer.model, vocab.txt or vocab.json; copy the "
                          "model's tokenizer there");
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& model_folder) {
  try {
    return load(model_folder);
  } catch (const json::exception& error) {
    throw core::ConfigError((model_folder / "tokenizer_config.json").string() + ": malformed (" +
                            error.what() + "); fetch the file again");
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError(model_folder.string() + ": " + error.what() +
                            "; fetch the model again");
  }
}

}  // namespace drystone::data
