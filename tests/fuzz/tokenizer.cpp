// Fuzz target: the content of tokenizer.json, or of tokenizer.model where that is not JSON. What
// loads must encode and decode; what does not must be refused by one of our errors.

#include <cstdlib>
#include <fstream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/seed.h"
#include "tests/fuzz/fuzz_target.h"
#include "text/normalizer_charsmap.h"
#include "text/tokenizer_files.h"

using namespace drystone;
using nlohmann::json;

namespace {

constexpr const char* kTexts[] = {"", "the cat's hat 123", "a\xFF\xC3 b",
                                  "\xE2\x96\x81 e\xCC\x81 \xF0\x9F\x98\x80 <s><tok>"};

std::unique_ptr<text::Tokenizer> load(std::string_view bytes) {
  const text::TokenizerRoles no_roles("no such folder");
  const json root = json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (root.is_object()) return text::from_json(root, "tokenizer.json", no_roles);
  return text::from_sentencepiece(bytes, "tokenizer.model", no_roles);
}

/// Every value below `node`, itself included.
void collect(json& node, std::vector<json*>& all) {
  all.push_back(&node);
  if (!node.is_structured()) return;
  for (json& child : node) collect(child, all);
}

/// Replaces some values by others that JSON allows there.
void damage(json& root, core::SplitMix64& random) {
  const json values[] = {nullptr,
                         true,
                         -1,
                         0,
                         7,
                         1e300,
                         "",
                         "x",
                         "Sequence",
                         "\u2581",
                         json::array(),
                         json::object(),
                         {{"Regex", "(a|b"}},
                         {{"String", ""}}};
  for (std::uint64_t i = random.below(4); i > 0; --i) {
    std::vector<json*> all;
    collect(root, all);
    *all[random.below(all.size())] = values[random.below(std::size(values))];
  }
}

core::Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto tokenizer = load({reinterpret_cast<const char*>(data), size});
    for (const char* text : kTexts) {
      const auto ids = tokenizer->encode(text);
      for (const text::TokenId id : ids) {
        if (id < 0) std::abort();
      }
      tokenizer->decode(ids);
    }
  } catch (const core::InvariantError&) {
    std::abort();
  } catch (const core::Error&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  static const json fixture =
      json::parse(std::ifstream(DRYSTONE_SOURCE_DIR "/tests/text/tokenizer_cases.json"));
  core::SplitMix64 random(seed);
  const json& tokenizers = fixture.at("json");
  json root = std::next(tokenizers.begin(), static_cast<std::ptrdiff_t>(seed % tokenizers.size()))
                  ->at("tokenizer");
  for (const char* part : {"vocab", "merges"}) {
    json& model = root.at("model");
    if (model.contains(part)) model[part] = fixture.at("tables").at(model[part].get<int>());
  }
  damage(root, random);
  const json& models = fixture.at("sentencepiece");
  const json& model = *std::next(models.begin(), static_cast<std::ptrdiff_t>(seed % models.size()));
  return {bytes_of(root.dump()),
          bytes_of(text::decode_base64(model.at("model").get_ref<const std::string&>()))};
}

}  // namespace drystone::test
