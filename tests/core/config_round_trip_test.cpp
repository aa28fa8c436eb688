// to_toml writes what load_config reads back, for any configuration that load_config can give.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/config.h"
#include "core/seed.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::Config;
using core::SplitMix64;

namespace {

class RandomConfig {
 public:
  explicit RandomConfig(std::uint64_t seed) : random_(seed) {}

  Config make() {
    Config config;
    config.name = text();
    config.seed = random_() >> 1;
    config.model.task = pick({"classification", "regression", "causal-lm"});
    config.model.path = path();
    config.model.max_length = between(3, 512);
    config.model.quantization = pick({"none", "nf4", "int8"});
    if (coin()) config.model.sha256 = std::string(64, static_cast<char>('0' + between(0, 9)));
    fill(config.data);
    config.data.packing = config.model.task == "causal-lm" && coin();
    config.data.streaming = config.model.task == "causal-lm" && coin();
    config.federation.deadline = std::chrono::milliseconds(between(1, 10'000'000));
    config.federation.rounds = between(1, 100);
    config.federation.begun_rounds = between(0, 100);
    config.federation.grace = std::chrono::milliseconds(between(1, 100'000));
    config.federation.attempts = between(1, 9);
    config.client.reveal = pick({"full", "minimal"});
    config.client.give_up_after = std::chrono::milliseconds(between(0, 3) * 1000);
    config.client.max_storage = between(0, 1'000'000);
    config.aggregation.max_norm = positive();
    config.training = training({});
    fill(config.aggregation);
    if (coin()) fill_clients(config);
    if (coin()) config.security.coordinator = "tcp://host:" + std::to_string(between(0, 65535));
    config.federation.layout = path();
    config.federation.initial = path();
    config.security.identity = path();
    config.security.coordinator_key = path();
    config.security.allow = path();
    config.simulation.workers = between(0, 64);
    config.simulation.group = between(0, 64);
    config.output.dir = "/runs/" + std::to_string(between(0, 99));
    config.output.keep_updates = coin();
    return config;
  }

 private:
  void fill(core::DataConfig& data) {
    data.train = path();
    data.test = path();
    data.text_field = text();
    data.label_field = text();
    for (std::int64_t i = between(0, 3); i > 0; --i)
      data.labels.push_back(text() + static_cast<char>('a' + i));
    data.partition = pick({"iid", "dirichlet", "shards", "by-key"});
    data.concentration = positive();
    data.shards_per_client = between(1, 9);
    data.partition_key = text();
    data.max_test_examples = between(0, 1000);
    data.text_pair_field = text();
    data.prompt_template = pick({"auto", "alpaca", "dolly", "plain", "chat", "{q}\n\"{{"});
    if (data.prompt_template.front() == '{') data.answer_field = "a" + text();
    data.loss_on = pick({"answer", "all"});
    data.cache = path();
  }

  void fill_clients(Config& config) {
    std::int64_t total = 0;
    for (std::int64_t i = between(1, 4); i > 0; --i) {
      config.clients.push_back(
          {between(1, 5), training(config.training), pick({"none", "nf4", "int8"})});
      total += config.clients.back().count;
    }
    config.federation.cohort = between(0, total);
    const std::int64_t asked = config.federation.cohort > 0 ? config.federation.cohort : total;
    config.federation.quorum = between(core::kHalf, asked);
  }

  void fill(core::AggregationConfig& aggregation) {
    aggregation.rule = pick({"flora", "zero-pad"});
    aggregation.weights = pick({"examples", "uniform"});
    aggregation.compaction = pick({"none", "lossless", "tolerance", "rank"});
    if (aggregation.compaction == "tolerance")
      aggregation.tolerance = 0.5 * random_.uniform() + 1e-9;
    if (aggregation.compaction == "rank") aggregation.rank = between(1, 64);
  }

  // A group keeps its defaults' options as long as it keeps their method.
  core::TrainingConfig training(core::TrainingConfig training) {
    if (coin()) {
      const std::string method = pick({"lora", "rslora", "kasa"});
      if (method != training.method) training.options.clear();
      training.method = method;
    }
    if (coin()) training.rank = between(1, 64);
    if (coin()) training.alpha = positive();
    if (coin()) training.target_modules = {"query", text() + "x"};
    if (coin()) training.target_modules = {"all-linear"};
    if (coin()) training.epochs = between(1, 9);
    if (coin()) training.max_steps = between(0, 99);
    if (coin()) training.gradient_accumulation = between(1, 9);
    if (coin()) training.checkpointing = coin();
    if (coin()) training.max_grad_norm = positive();
    if (coin()) training.learning_rate = positive();
    if (coin()) training.schedule = pick({"constant", "linear", "cosine"});
    if (coin()) training.schedule_over = "federation";
    if (coin()) training.rank_scaling = pick({"none", "rate", "rslora"});
    if (coin()) training.warmup = random_.uniform();
    if (coin()) training.weight_decay = positive();
    if (coin()) training.dropout = random_.uniform();
    if (coin()) training.threads = between(1, 8);
    if (coin()) training.options["real"] = positive();
    if (coin()) training.options["whole"] = between(-9, 9);
    if (coin()) training.options["flag"] = coin();
    if (coin()) training.options[text()] = text();
    return training;
  }

  bool coin() { return random_.below(2) == 1; }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low +
           static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(high - low + 1)));
  }
  double positive() { return std::pow(10.0, random_.uniform() * 12 - 6); }
  std::string pick(const std::vector<std::string>& words) {
    return words.at(random_.below(words.size()));
  }
  // Everything that TOML strings must escape, and some that they must not.
  std::string text() {
    const std::vector<std::string> pieces = {"a",    "B",    " ", "\"", "\\", "\n", "\t",
                                             "\x7f", "\x1b", "#", "=",  "é",  "漢", "'",
                                             "[",    ".",    "0", "-",  "_"};
    std::string result = "t";
    for (std::int64_t i = between(0, 6); i > 0; --i) result += pick(pieces);
    return result;
  }
  std::filesystem::path path() {
    return coin() ? std::filesystem::path() : std::filesystem::path("/" + text());
  }

  SplitMix64 random_;
};

}  // namespace

TEST_CASE("to_toml: load_config reads the same configuration back") {
  const test::TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const Config config = RandomConfig(seed).make();
    const std::string text = core::to_toml(config);
    CAPTURE(text);
    const Config again = core::load_config(folder.write("config.toml", text));
    CHECK(again == config);
    CHECK(core::to_toml(again) == text);
    CHECK(core::semantic_text(again) == core::semantic_text(config));
  }
}

TEST_CASE("to_toml: groups say only what differs from [training]") {
  Config config;
  config.clients.assign(2, {.count = 3, .training = config.training});
  config.clients[1].training.rank = 64;
  const std::string text = core::to_toml(config);
  CHECK(text.find("\n[[clients]]\ncount = 3\n\n[[clients]]\ncount = 3\nrank = 64\n\n") !=
        std::string::npos);
}

TEST_CASE("load_config: mutated files give a configuration or a ConfigError, nothing else") {
  const test::TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    std::string text = core::to_toml(RandomConfig(seed).make());
    SplitMix64 random(seed);
    for (int i = 0; i < 4; ++i) {
      const std::size_t at = random.below(text.size());
      if (random.below(2) == 0)
        text.erase(at, random.below(8));
      else
        text[at] = static_cast<char>(random.below(256));
    }
    try {
      core::load_config(folder.write("config.toml", text));
    } catch (const core::ConfigError& error) {
      CAPTURE(std::string(error.what()));
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}
