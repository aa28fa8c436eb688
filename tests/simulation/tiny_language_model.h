#pragma once
// A federation that trains a tiny Llama in a second: it continues alphabets.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/seed.h"
#include "simulation/simulator.h"
#include "tests/models/tiny_decoder.h"
#include "tests/temporary_folder.h"

namespace drystone::test {

/// Alphabets of a role's own step: "a c e g …", "b e h k …".
inline void write_texts(const std::filesystem::path& file, int count, const char* purpose) {
  core::SplitMix64 random({1, 0, "", purpose});
  std::ofstream lines(file);
  for (int i = 0; i < count; ++i) {
    const auto role = static_cast<int>(random.below(3));
    int letter = static_cast<int>(random.below(26));
    std::string text;
    for (auto words = 4 + random.below(9); words > 0; --words, letter += 2 + role) {
      text += std::string(text.empty() ? "" : " ") + static_cast<char>('a' + letter % 26);
    }
    lines << R"({"text": ")" << text << R"(", "role": "role-)" << role << "\"}\n";
  }
}

class TinyLanguageModel {
 public:
  static constexpr const char* kClients = "[[clients]]\nrank = 8\n[[clients]]\ncount = 2\n";

  /// @param clients  the [[clients]] entries
  explicit TinyLanguageModel(const std::string& clients = kClients) {
    write_tiny_decoder(folder_ / "model");
    write_texts(folder_ / "train.jsonl", 120, "train");
    write_texts(folder_ / "test.jsonl", 40, "test");
    std::ofstream(folder_ / "federation.toml") << R"(name = "letters"
seed = 3
[model]
path = "model"
task = "causal-lm"
max_length = 24
[data]
train = "train.jsonl"
test = "test.jsonl"
partition = "by-key"
partition_key = "role"
[federation]
rounds = 2
[training]
rank = 4
alpha = 8
batch_size = 4
epochs = 2
learning_rate = 2e-2
)" << clients;
  }
  simulation::SimulationOutcome run(const std::string& out,
                                    const std::vector<std::string>& overrides = {}) const {
    return simulation::simulate(core::load_config(folder_ / "federation.toml", overrides),
                                {.run_dir = folder_ / out, .device = "cpu", .stop = {}}, {});
  }
  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
};

}  // namespace drystone::test
