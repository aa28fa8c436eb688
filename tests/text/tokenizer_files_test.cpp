// Model folders without tokenizer.json, and the roles of special tokens.

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "core/error.h"
#include "tests/text/files.h"
#include "text/token_bytes.h"
#include "text/tokenizer.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;
using Ids = std::vector<TokenId>;

namespace {

enum : TokenId { kBos = 256, kEos, kPad, kMask, kThe };

/// The 256 bytes by value, special tokens, and "the" from merges.
json vocabulary() {
  json tokens = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    const char raw = static_cast<char>(byte);
    append_byte_characters(std::string_view(&raw, 1), token);
    tokens[token] = byte;
  }
  tokens.update({{"<s>", kBos}, {"</s>", kEos}, {"<pad>", kPad}, {"<mask>", kMask}});
  tokens.update({{"the", kThe}, {"th", kThe + 1}});
  return tokens;
}

constexpr const char* kMerges = "#version: 0.2\nt h\nth e\n";

void write_gpt2(const TemporaryFolder& folder, const std::string& config) {
  write_file(folder, "vocab.json", vocabulary().dump());
  write_file(folder, "merges.txt", kMerges);
  if (!config.empty()) write_file(folder, "tokenizer_config.json", config);
}

}  // namespace

TEST_CASE("tokenizer_files: vocab.json and merges.txt with <s> and </s> are RoBERTa's") {
  const TemporaryFolder folder;
  write_gpt2(folder, "");
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->encode("the  <mask></s>") == Ids{kBos, kThe, kMask, kEos, kEos});
  CHECK(tokenizer->decode(Ids{kBos, kThe, ' ', 't'}) == "the t");
  CHECK(tokenizer->special().pad == kPad);
  CHECK(tokenizer->special().mask == kMask);
}

TEST_CASE("tokenizer_files: GPT-2's adds nothing, Qwen's parts digits") {
  const TemporaryFolder gpt2;
  write_gpt2(gpt2, R"({"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>"})");
  const auto plain = load_tokenizer(gpt2.path());
  CHECK(plain->encode("the</s>") == Ids{kThe, kEos});
  CHECK(plain->special().eos == kEos);
  const TemporaryFolder qwen;
  write_gpt2(qwen, R"({"tokenizer_class": "Qwen2Tokenizer"})");
  CHECK(load_tokenizer(qwen.path())->encode("e\xCC\x81") == Ids{0xC3, 0xA9});  // composed
}

TEST_CASE("tokenizer_files: added_tokens.json counts where the configuration lists nothing") {
  const TemporaryFolder folder;
  write_gpt2(folder, R"({"tokenizer_class": "GPT2Tokenizer"})");
  write_file(folder, "added_tokens.json", R"({"<new>": 400})");
  const auto tokenizer = load_tokenizer(folder.path());
  constexpr TokenId kNew = kThe + 2;  // the next id, as in transformers
  CHECK(tokenizer->encode("the<new>") == Ids{kThe, kNew});
  CHECK(tokenizer->decode(Ids{kNew, kThe}) == "<new>the");
}

TEST_CASE("tokenizer_files: a malformed merge is named by its line") {
  const TemporaryFolder folder;
  write_gpt2(folder, "");
  write_file(folder, "merges.txt", "t h\nthe\n");
  CHECK(contains(message_of<ConfigError>([&] { load_tokenizer(folder.path()); }), "merges.txt:2:"));
  write_file(folder, "merges.txt", "t h\nth x\n");
  CHECK(contains(message_of<ConfigError>([&] { load_tokenizer(folder.path()); }), "thx"));
}

TEST_CASE("tokenizer_files: roles from the files, else from usual names") {
  const TemporaryFolder folder;
  write_file(
      folder, "tokenizer.json",
      json{{"model", {{"type", "BPE"}, {"vocab", vocabulary()}, {"merges", {"t h", "th e"}}}},
           {"added_tokens", {{{"id", 262}, {"content", "<|endoftext|>"}, {"special", true}}}}}
          .dump());
  const auto usual = load_tokenizer(folder.path());
  CHECK(usual->special().bos == kBos);
  CHECK(usual->special().eos == kEos);
  CHECK_FALSE(usual->special().unk.has_value());
  CHECK(usual->vocab_size() == 263);
  write_file(folder, "special_tokens_map.json", R"({"bos_token": "the", "pad_token": "<mask>"})");
  write_file(folder, "tokenizer_config.json", R"({"eos_token": {"content": "<|endoftext|>"},
      "pad_token": "<pad>", "unk_token": "not there", "added_tokens_decoder": {}})");
  const auto named = load_tokenizer(folder.path());
  CHECK(named->special().bos == kBos);  // with "added_tokens_decoder" the map does not count
  CHECK(named->special().eos == 262);
  CHECK(named->special().pad == kPad);
  CHECK(named->special().unk == 263);
  write_file(folder, "tokenizer_config.json", R"({"pad_token": "<pad>"})");
  const auto mapped = load_tokenizer(folder.path());
  CHECK(mapped->special().bos == kThe);
  CHECK(mapped->special().pad == kMask);
}

TEST_CASE("tokenizer_files: hostile files end in one line that names the file") {
  const auto refusal = [](const TemporaryFolder& folder) {
    const auto message = message_of<drystone::core::Error>([&] { load_tokenizer(folder.path()); });
    CHECK(message.starts_with(folder.path().string()));
    CHECK(message.size() < 500);
    return message;
  };
  const TemporaryFolder folder;
  const std::string deep(1'000'000, '[');
  write_file(folder, "tokenizer.json", deep);
  CHECK(contains(refusal(folder), "tokenizer.json: nested deeper than 64 levels"));
  write_file(folder, "tokenizer.json",
             R"({"model": {"vocab": {"a": 1099511627776}, "merges": []}})");
  CHECK(contains(refusal(folder), "1099511627776 is not a token id"));
  write_file(folder, "tokenizer.json", R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": []}})");
  CHECK(contains(refusal(folder), "key \"a\" stands twice"));
  for (const char* const name : {"tokenizer.json", "tokenizer_config.json", "added_tokens.json"}) {
    CAPTURE(name);
    const TemporaryFolder other;
    write_gpt2(other, "");
    const std::filesystem::path place = other.path() / name;
    std::filesystem::remove(place);
    REQUIRE(::mkfifo(place.c_str(), 0600) == 0);
    CHECK(contains(refusal(other), "is not a regular file"));
  }
  const TemporaryFolder merges;
  write_gpt2(merges, "");
  write_file(merges, "added_tokens.json", R"({"<new>": 1099511627776})");
  CHECK(contains(refusal(merges), "1099511627776 is not a token id"));
}

TEST_CASE("tokenizer_files: a broken tokenizer.model is named") {
  const TemporaryFolder folder;
  const auto file = write_file(folder, "tokenizer.model", "nonsense");
  const auto message = message_of<ConfigError>([&] { load_tokenizer(folder.path()); });
  CHECK(contains(message, file.string() + ": not a SentencePiece model"));
}
