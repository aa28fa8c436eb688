#pragma once
// A federation that trains in a second: the two-layer BERT of tests/models/fixtures on made-up
// texts whose label is decided by one of their words.

#include <filesystem>
#include <fstream>
#include <string>

#include "core/config.h"
#include "core/seed.h"
#include "tests/temporary_folder.h"

namespace drystone::test {

class TinyFederation {
 public:
  static constexpr const char* kClients = R"([[clients]]
rank = 4
[[clients]]
count = 2
[[clients]]
rank = 1
method = "rslora"
)";

  /// @param clients  the [[clients]] entries
  explicit TinyFederation(const std::string& clients = kClients) {
    namespace fs = std::filesystem;
    const fs::path fixture = fs::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/bert_tiny";
    fs::create_directories(path() / "model");
    for (const char* file : {"config.json", "model.safetensors"}) {
      fs::copy_file(fixture / file, path() / "model" / file);
    }
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char word = 'a'; word < 'p'; ++word) vocabulary += std::string(1, word) + "\n";
    write("model/vocab.txt", vocabulary);
    write("train.jsonl", texts(/*count=*/120, "train"));
    write("test.jsonl", texts(/*count=*/40, "test"));
    write("federation.toml", kConfig + clients + kOutput);
  }

  const std::filesystem::path& path() const { return folder_.path(); }
  std::filesystem::path config_file() const { return path() / "federation.toml"; }

  core::Config config(const std::vector<std::string>& overrides = {}) const {
    return core::load_config(config_file(), overrides);
  }

 private:
  static constexpr const char* kConfig = R"(name = "tiny"
seed = 7
[model]
path = "model"
max_length = 8
[data]
train = "train.jsonl"
test = "test.jsonl"
partition = "dirichlet"
concentration = 0.5
[federation]
rounds = 2
deadline = "1min"
grace = "1min"
[training]
rank = 2
alpha = 4
max_steps = 3
batch_size = 4
learning_rate = 1e-2
dropout = 0.1
)";
  static constexpr const char* kOutput = R"([output]
dir = "run"
)";

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path() / name, std::ios::binary) << text;
  }

  static std::string texts(int count, const char* purpose) {
    core::SplitMix64 random({1, 0, "", purpose});
    std::string lines;
    for (int i = 0; i < count; ++i) {
      const auto label = random.below(3);
      std::string text(1, static_cast<char>('a' + label));
      for (auto words = 1 + random.below(5); words > 0; --words) {
        text += std::string(" ") + static_cast<char>('d' + random.below(12));
      }
      lines += R"({"text": ")" + text + R"(", "label": "class-)" + std::to_string(label) + "\"}\n";
    }
    return lines;
  }

  TemporaryFolder folder_;
};

}  // namespace drystone::test
