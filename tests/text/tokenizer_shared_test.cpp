// Real tokenizers under ../shared/data: ids and texts equal those of Hugging Face's `tokenizers`
// and of `sentencepiece`. Prints how many strings were compared and how many were equal.

#include <array>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "tests/text/files.h"
#include "tests/text/llama_cpp_reference.h"
#include "text/token_stream.h"
#include "text/tokenizer.h"

using namespace drystone::text;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;
using Ids = std::vector<TokenId>;
namespace fs = std::filesystem;

namespace {

const fs::path kShared = fs::path(DRYSTONE_SOURCE_DIR) / "../shared/data/tokenizers";

bool is_missing() {
  if (fs::exists(kShared)) return false;
  MESSAGE("skipped: no ../shared/data here");
  return true;
}

std::string read_gz(const fs::path& file) {
  gzFile stream = gzopen(file.c_str(), "rb");
  REQUIRE(stream != nullptr);
  std::string content;
  std::array<char, 65536> buffer{};
  for (int n = 0; (n = gzread(stream, buffer.data(), buffer.size())) > 0;) {
    content.append(buffer.data(), static_cast<std::size_t>(n));
  }
  gzclose(stream);
  return content;
}

/// Loads a copy of the one file, unpacked, under the name that model folders give it.
std::unique_ptr<Tokenizer> load_one(const std::string& source, const std::string& name) {
  const TemporaryFolder folder;
  const fs::path file = kShared / source;
  write_file(folder, name, read_gz(file));  // reads what is not packed as well
  return load_tokenizer(folder.path());
}

struct Reference {
  std::string source;    ///< the tokenizer's file
  std::string name;      ///< as a model folder calls it
  std::string expected;  ///< strings, ids and texts
};

const std::vector<Reference> kReferences = {
    {"gpt2/tokenizer.json.gz", "tokenizer.json", "gpt2"},
    {"mistral-v1/tokenizer.json.gz", "tokenizer.json", "mistral-v1"},
    {"mistral-v3/tokenizer.json.gz", "tokenizer.json", "mistral-v3"},
    {"olmo-neox/tokenizer.json.gz", "tokenizer.json", "olmo-neox"},
    {"stories512/tokenizer.json", "tokenizer.json", "stories512"},
    {"tiny-llama3-style/tokenizer.json", "tokenizer.json", "tiny-llama3-style"},
    {"bert-base-uncased/vocab.txt", "vocab.txt", "bert-base-uncased"},
    {"t5/spiece.model.gz", "spiece.model", "t5.spm"},
    {"albert/spiece.model.gz", "spiece.model", "albert.spm"},
    {"tiny-spm/m.model", "tokenizer.model", "tiny-spm-m.spm"},
    {"tiny-spm/test_model_unigram.model", "tokenizer.model", "tiny-unigram.spm"},
};

struct Tally {
  std::size_t strings = 0;
  std::size_t equal = 0;
};

bool is_equal(const Tokenizer& tokenizer, const json& row) {
  const auto text = row.at("text").get<std::string>();
  const auto ids = row.at("ids").get<Ids>();
  bool equal = tokenizer.encode(text, 0, false) == ids;
  CHECK(equal);
  if (row.contains("ids_special")) {
    const bool same = tokenizer.encode(text, 0, true) == row.at("ids_special").get<Ids>();
    CHECK(same);
    equal = equal && same;
  }
  const std::string decoded = tokenizer.decode(ids);
  CHECK(decoded == row.at("decoded").get<std::string>());
  return equal && decoded == row.at("decoded").get<std::string>();
}

Tally compare(const Tokenizer& tokenizer, const std::string& expected) {
  Tally tally;
  std::ifstream lines(kShared / "expected/hf" / (expected + ".jsonl"));
  for (std::string line; std::getline(lines, line); ++tally.strings) {
    CAPTURE(expected);
    CAPTURE(line);
    tally.equal += is_equal(tokenizer, json::parse(line)) ? 1 : 0;
  }
  return tally;
}

}  // namespace

TEST_CASE("tokenizers: the shared references of Hugging Face and SentencePiece") {
  if (is_missing()) return;
  for (const Reference& reference : kReferences) {
    const auto tokenizer = load_one(reference.source, reference.name);
    const Tally tally = compare(*tokenizer, reference.expected);
    CHECK(tally.strings == 69);
    MESSAGE(reference.expected << ": " << tally.strings << " strings, " << tally.equal
                               << " with equal ids and texts");
  }
}

TEST_CASE("tokenizers: tokenizer.model gives the ids of the tokenizer.json made from it") {
  if (is_missing()) return;
  for (const std::string name : {"mistral-v1", "mistral-v3"}) {
    const auto native = load_one(name + "/tokenizer.model", "tokenizer.model");
    const auto converted = load_one(name + "/tokenizer.json.gz", "tokenizer.json");
    std::ifstream lines(kShared / "expected/hf" / (name + ".jsonl"));
    std::size_t equal = 0;
    for (std::string line; std::getline(lines, line);) {
      const auto text = json::parse(line).at("text").get<std::string>();
      if (text.find("<s>") != std::string::npos) continue;  // a token there, text here
      CAPTURE(line);
      const Ids ids = converted->encode(text);
      CHECK(native->encode(text) == ids);
      CHECK(native->decode(ids) == converted->decode(ids));
      ++equal;
    }
    CHECK(equal == 68);
  }
}

TEST_CASE("tokenizers: vocab.json with merges.txt gives the ids of tokenizer.json") {
  if (is_missing()) return;
  const TemporaryFolder folder;
  write_file(folder, "vocab.json", read_gz(kShared / "gpt2/vocab.json.gz"));
  write_file(folder, "merges.txt", read_gz(kShared / "gpt2/merges.txt.gz"));
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->special().eos == 50256);
  CHECK(compare(*tokenizer, "gpt2").equal == 69);
}

TEST_CASE("tokenizers: llama.cpp's references") {
  if (is_missing()) return;
  for (const auto& [source, output] : {std::pair{"gpt2", "gpt-2"}, {"olmo-neox", "mpt"}}) {
    const auto tokenizer = load_one(std::string(source) + "/tokenizer.json.gz", "tokenizer.json");
    drystone::test::check_llama_cpp_ids(*tokenizer, kShared / "expected/llama.cpp", output);
  }
}

TEST_CASE("tokenizers: text decoded token by token is the text decoded at once") {
  if (is_missing()) return;
  for (const Reference& reference : kReferences) {
    const auto tokenizer = load_one(reference.source, reference.name);
    std::ifstream lines(kShared / "expected/hf" / (reference.expected + ".jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const json row = json::parse(line);
      CAPTURE(reference.expected);
      CAPTURE(line);
      StreamDecoder stream(*tokenizer);
      std::string text;
      for (const TokenId id : row.at("ids").get<Ids>()) text += stream.push(id);
      CHECK(text + stream.finish() == row.at("decoded").get<std::string>());
    }
  }
}
