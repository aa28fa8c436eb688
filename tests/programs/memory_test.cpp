// --memory-limit on a whole program: what it really takes, and what it says when nothing fits.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/seed.h"
#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

constexpr const char* kLlama = R"({"model_type": "llama", "vocab_size": 6000, "hidden_size": 256,
  "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 8,
  "num_key_value_heads": 8, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true})";

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// Random float32 tensors; vectors are ones.
void write_safetensors(const fs::path& file, const Shapes& shapes) {
  nlohmann::json header;
  std::vector<float> values;
  core::SplitMix64 random(5);
  for (const auto& [name, shape] : shapes) {
    const std::size_t begin = values.size();
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    for (std::int64_t i = 0; i < count; ++i) {
      const double value = shape.size() == 1 ? 1.0 : 0.06 * (random.uniform() - 0.5);
      values.push_back(static_cast<float>(value));
    }
    header[name] = {
        {"dtype", "F32"}, {"shape", shape}, {"data_offsets", {4 * begin, 4 * values.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t size = text.size();
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&size), sizeof(size));
  out << text;
  out.write(reinterpret_cast<const char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
}

void write_llama(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << kLlama;
  Shapes shapes = {{"model.embed_tokens.weight", {6000, 256}}, {"model.norm.weight", {256}}};
  for (int i = 0; i < 6; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    shapes[layer + "input_layernorm.weight"] = {256};
    shapes[layer + "post_attention_layernorm.weight"] = {256};
    for (const char* name : {"q", "k", "v", "o"}) {
      shapes[layer + "self_attn." + name + "_proj.weight"] = {256, 256};
    }
    for (const char* name : {"gate", "up"}) {
      shapes[layer + "mlp." + name + "_proj.weight"] = {704, 256};
    }
    shapes[layer + "mlp.down_proj.weight"] = {256, 704};
  }
  write_safetensors(folder / "model.safetensors", shapes);
  std::ofstream vocabulary(folder / "vocab.txt");
  vocabulary << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char word = 'a'; word <= 'z'; ++word) vocabulary << word << '\n';
}

void write_texts(const fs::path& file) {
  core::SplitMix64 random(1);
  std::ofstream lines(file);
  for (int i = 0; i < 16; ++i) {
    std::string text;
    for (int word = 0; word < 150; ++word) {
      text += std::string(" ") + static_cast<char>('a' + random.below(26));
    }
    lines << R"({"text": ")" << text.substr(1) << "\"}\n";
  }
}

class Runs {
 public:
  Runs() {
    write_llama(folder_ / "model");
    write_texts(folder_ / "train.jsonl");
    std::ofstream(folder_ / "federation.toml") << R"(name = "memory"
[model]
path = "model"
task = "causal-lm"
max_length = 128
[data]
train = "train.jsonl"
[federation]
rounds = 2
[training]
rank = 8
batch_size = 16
max_steps = 2
[[clients]]
)";
  }
  struct Outcome {
    int status = 0;
    std::string output;
    nlohmann::json report;
    std::int64_t peak() const { return report.at("peak_rss_bytes").get<std::int64_t>(); }
    std::int64_t passes() const { return report.at("totals").at("passes").get<std::int64_t>(); }
  };
  Outcome run(const std::string& name, const std::string& limit) const {
    std::vector<std::string> arguments = {"simulate", (folder_ / "federation.toml").string(),
                                          "--device", "cpu",
                                          "--out",    (folder_ / name).string()};
    if (!limit.empty()) arguments.insert(arguments.end(), {"--memory-limit", limit});
    test::Process process("drystone", arguments, folder_ / (name + ".log"));
    Outcome outcome{.status = process.wait(), .output = process.output(), .report = {}};
    const fs::path report = folder_ / name / "report.json";
    if (fs::exists(report)) {
      outcome.report = nlohmann::json::parse(core::read_text_file(report, 1 << 20));
    }
    return outcome;
  }

 private:
  test::TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("memory limit: the program stays below it, and trains the same steps") {
  const Runs runs;
  const Runs::Outcome free = runs.run("free", "");
  REQUIRE(free.status == 0);
  for (const std::int64_t limit : {400'000'000, 300'000'000}) {
    CAPTURE(limit);
    const Runs::Outcome bound = runs.run(std::to_string(limit), std::to_string(limit));
    REQUIRE(bound.status == 0);
    MESSAGE("free " << free.peak() << ", limit " << limit << ", taken " << bound.peak());
    CHECK(free.peak() > limit);  // so that there is something to do
    CHECK(bound.peak() <= limit);
    CHECK(static_cast<double>(limit) <= 1.45 * static_cast<double>(bound.peak()));
    CHECK(bound.passes() > free.passes());
    CHECK(bound.report.at("totals").at("client_steps") ==
          free.report.at("totals").at("client_steps"));
    CHECK(bound.report.at("totals").at("tokens") == free.report.at("totals").at("tokens"));
    CHECK(bound.output.find("fitted to the memory limit") != std::string::npos);
  }
}

TEST_CASE("memory limit: what cannot fit is refused with what it needs and what helps") {
  const Runs runs;
  const Runs::Outcome outcome = runs.run("small", "160MB");
  CHECK(outcome.status == 2);
  CHECK(outcome.output.find("training.memory_limit: 160 MB are not enough") != std::string::npos);
  CHECK(outcome.output.find("nf4") != std::string::npos);
}
