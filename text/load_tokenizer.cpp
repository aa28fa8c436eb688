// Finds and reads the tokenizer files of a Hugging Face model folder.

#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "core/files.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_json.h"

namespace drystone::text {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kMostModelBytes = std::uint64_t{1} << 28;

std::unique_ptr<Tokenizer> load(const fs::path& folder) {
  const TokenizerRoles roles(folder);
  const fs::path whole = folder / "tokenizer.json";
  if (fs::exists(whole)) return from_json(read_json(whole), whole, roles);
  for (const char* name : {"tokenizer.model", "spiece.model", "spm.model"}) {
    const fs::path file = folder / name;
    if (!fs::exists(file)) continue;
    return from_sentencepiece(core::read_text_file(file, kMostModelBytes), file, roles);
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
  } catch (const core::ConfigError& error) {
    if (std::string_view(error.what()).starts_with(model_folder.string())) throw;
    throw core::ConfigError(model_folder.string() + ": " + error.what());
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError(model_folder.string() + ": " + error.what() +
                            "; fetch the model again");
  }
}

}  // namespace drystone::text
