#include <algorithm>
#include <set>
#include <tuple>

#include "core/config.h"
#include "core/config_reader.h"
#include "core/text.h"

namespace drystone::core {
namespace {

using detail::Document;
using detail::TableReader;

constexpr double kMax = std::numeric_limits<float>::max();  // what trains holds float32
constexpr RealRange kPositive = {.low = 0.0, .high = kMax, .open_low = true};
constexpr IntRange kRanks = {1, 65536};
constexpr IntRange kFromOne = {1, 1'000'000'000};
constexpr IntRange kFromZero = {0, 1'000'000'000};

void read_top(TableReader& top, Config& config) {
  top.read("name", config.name);
  if (config.name.empty()) top.fail("name", "is empty; write e.g. name = \"news\"");
  auto seed = static_cast<std::int64_t>(config.seed);
  top.read("seed", seed, IntRange{});
  config.seed = static_cast<std::uint64_t>(seed);
}

void read_model(TableReader section, ModelConfig& model) {
  section.read("path", model.path);
  section.read("adapter", model.adapter);
  section.read_choice("task", model.task, {"classification", "regression", "causal-lm"});
  section.read_choice("dtype", model.dtype, {"float32", "bfloat16"});
  section.read_choice("quantization", model.quantization, {"none", "nf4", "int8"});
  section.read("max_length", model.max_length, {3, 1'000'000});
  section.read("sha256", model.sha256);
  const bool is_hex = model.sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!model.sha256.empty() && (model.sha256.size() != 64 || !is_hex)) {
    section.fail("sha256", "must be 64 lower-case hexadecimal digits, not " + quote(model.sha256) +
                               "; in model.path `cat config.json *.safetensors | sha256sum` "
                               "prints it; or remove the key");
  }
}

// A text with {fields} is an own template, anything else must be a name.
void read_template(TableReader& section, DataConfig& data) {
  section.read("answer_field", data.answer_field);
  section.read("template", data.prompt_template);
  if (data.prompt_template.find_first_of("{}") == std::string::npos) {
    section.read_choice("template", data.prompt_template,
                        {"auto", "alpaca", "dolly", "plain", "chat"});
    if (!data.answer_field.empty()) {
      section.fail("answer_field", "is for an own template with {fields}; add one, or remove it");
    }
  } else if (data.answer_field.empty()) {
    section.fail("template",
                 "needs the field of the answer that follows it; add e.g. "
                 "answer_field = \"answer\"");
  }
}

void read_data(TableReader section, DataConfig& data) {
  section.read("train", data.train);
  section.read("test", data.test);
  section.read("text_field", data.text_field);
  section.read("text_pair_field", data.text_pair_field);
  section.read("label_field", data.label_field);
  section.read("labels", data.labels);
  section.read_choice("partition", data.partition,
                      {"iid", "dirichlet", "shards", "by-key", "by-file"});
  section.read("concentration", data.concentration, kPositive);
  section.read("shards_per_client", data.shards_per_client, kFromOne);
  section.read("partition_key", data.partition_key);
  section.read("max_test_examples", data.max_test_examples, kFromZero);
  if (data.partition == "by-key" && data.partition_key.empty()) {
    section.fail("partition",
                 "\"by-key\" needs the field that names the client; add e.g. "
                 "partition_key = \"author\"");
  }
  read_template(section, data);
  section.read_choice("loss_on", data.loss_on, {"answer", "all"});
  section.read("packing", data.packing);
  section.read("streaming", data.streaming);
  section.read("cache", data.cache);
}

void read_quorum(TableReader& section, std::int64_t& quorum) {
  const std::string key = "quorum";
  const auto* node = section.find(key);
  if (node == nullptr || !node->is_string()) return section.read(key, quorum, kFromZero);
  std::string word = "half";
  section.read_choice(key, word, {"half"});
  quorum = kHalf;
}

void read_simulation(TableReader section, SimulationConfig& simulation) {
  section.read("workers", simulation.workers, {0, 4096});
  section.read("profiles", simulation.profiles);
  const std::string key = "group";
  const auto* node = section.find(key);
  if (node == nullptr || !node->is_string()) {
    return section.read(key, simulation.group, {1, 1024});
  }
  std::string word = "auto";
  section.read_choice(key, word, {"auto"});
  simulation.group = 0;
}

void read_federation(TableReader section, FederationConfig& federation) {
  section.read("rounds", federation.rounds, kFromOne);
  section.read("begun_rounds", federation.begun_rounds, kFromZero);
  section.read("cohort", federation.cohort, kFromZero);
  section.read("over_selection", federation.over_selection, {.low = 1.0, .high = 100.0});
  read_quorum(section, federation.quorum);
  section.read("deadline", federation.deadline);
  section.read("grace", federation.grace);
  section.read("attempts", federation.attempts, kFromOne);
  section.read("layout", federation.layout);
  section.read("initial", federation.initial);
  section.read_choice("mode", federation.mode, {"sync"});
  section.refuse("buffer", "is for mode = \"async\", which this version does not have; remove it");
}

void read_target_modules(TableReader& section, std::vector<std::string>& modules) {
  constexpr std::string_view kAll = "all-linear";
  const std::string key = "target_modules";
  const auto* node = section.find(key);
  if (node == nullptr) return;
  const std::string example = "write [\"query\", \"value\"] or \"all-linear\"";
  if (node->is_string()) {
    const std::string given = **node->as_string();
    if (given != kAll) section.fail(key, quote(given) + " alone is not understood; " + example);
    modules = {given};
    return;
  }
  section.read(key, modules);
  if (modules.empty()) section.fail(key, "names no module; " + example);
  if (modules.size() > 1 && std::ranges::find(modules, kAll) != modules.end()) {
    section.fail(key, "\"all-linear\" leaves nothing to add; " + example);
  }
}

// An entry that names another method does not inherit the options of the defaults' method.
void read_method(TableReader& section, TrainingConfig& training) {
  const std::string inherited = training.method;
  section.read("method", training.method);
  if (training.method.empty()) section.fail("method", "is empty; write e.g. method = \"lora\"");
  if (training.method != inherited) training.options.clear();
  section.read_options("options", training.options);
}

void read_training(TableReader& section, TrainingConfig& training) {
  read_method(section, training);
  section.read("rank", training.rank, kRanks);
  section.read("alpha", training.alpha, kPositive);
  read_target_modules(section, training.target_modules);
  section.read("epochs", training.epochs, kFromOne);
  section.read("max_steps", training.max_steps, kFromZero);
  section.read("batch_size", training.batch_size, {1, 1'000'000});
  section.read("gradient_accumulation", training.gradient_accumulation, {1, 1'000'000});
  section.read_choice("precision", training.precision, {"float32", "bfloat16"});
  section.read_size("memory_limit", training.memory_limit);
  section.read("checkpointing", training.checkpointing);
  section.read("max_grad_norm", training.max_grad_norm, RealRange{.high = kMax});
  section.read("learning_rate", training.learning_rate, kPositive);
  section.read_choice("schedule", training.schedule, {"constant", "linear", "cosine"});
  section.read_choice("schedule_over", training.schedule_over, {"round", "federation"});
  section.read_choice("rank_scaling", training.rank_scaling, {"none", "rate", "rslora"});
  section.read("warmup", training.warmup, {.low = 0.0, .high = 1.0});
  section.read("weight_decay", training.weight_decay, {.low = 0.0, .high = kMax});
  section.read("dropout", training.dropout, {.low = 0.0, .high = 1.0, .open_high = true});
  section.read("threads", training.threads, {1, 1024});
}

void read_clients(std::vector<TableReader> entries, Config& config) {
  for (auto& entry : entries) {
    ClientGroup group{
        .count = 1, .training = config.training, .quantization = config.model.quantization};
    entry.read("count", group.count, {1, 1'000'000});
    entry.read_choice("quantization", group.quantization, {"none", "nf4", "int8"});
    entry.read("device", group.device);
    read_training(entry, group.training);
    config.clients.push_back(std::move(group));
  }
}

void read_compaction(TableReader& section, AggregationConfig& aggregation) {
  const std::string key = "compaction";
  const auto* node = section.find(key);
  if (node == nullptr) return;
  if (!node->is_table()) {
    section.read_choice(key, aggregation.compaction, {"none", "lossless"},
                        "{rank = 64}, {tolerance = 0.01}");
    return;
  }
  TableReader amount = section.table(key);
  if (node->as_table()->size() != 1) {
    section.fail(key, "takes one bound; write {tolerance = 1e-3} or {rank = 64}");
  }
  aggregation.compaction = node->as_table()->contains("rank") ? "rank" : "tolerance";
  aggregation.tolerance = 1e-3;
  aggregation.rank = 64;
  amount.read("tolerance", aggregation.tolerance,
              {.low = 0.0, .high = 1.0, .open_low = true, .open_high = true});
  amount.read("rank", aggregation.rank, kRanks);
  if (aggregation.compaction == "rank") aggregation.tolerance = 0.0;
  if (aggregation.compaction == "tolerance") aggregation.rank = 0;
}

void read_aggregation(TableReader section, AggregationConfig& aggregation) {
  section.read("rule", aggregation.rule);
  section.read_choice("weights", aggregation.weights, {"examples", "uniform"});
  section.read_choice("start", aggregation.start, {"fresh"});
  read_compaction(section, aggregation);
  section.read_choice("robust", aggregation.robust, {"none"});
  section.read("max_norm", aggregation.max_norm, RealRange{});
}

void read_client(TableReader section, ClientConfig& client) {
  section.read_choice("reveal", client.reveal, {"full", "minimal"});
  section.read_patience("give_up_after", client.give_up_after);
  section.read_size("max_storage", client.max_storage);
}

void read_privacy(TableReader section) {
  std::string off = "off";
  section.read_choice("secure_aggregation", off, {"off"});
  section.read_choice("differential_privacy", off, {"off"});
  section.refuse("group_size",
                 "is for secure aggregation, which this version does not have; "
                 "remove it");
  for (const std::string key : {"noise_multiplier", "clip", "delta", "budget"}) {
    section.refuse(key, "is for differential privacy, which this version does not have; remove it");
  }
}

bool is_tcp_address(const std::string& text) {
  const std::string scheme = "tcp://";
  const std::size_t colon = text.rfind(':');
  if (!text.starts_with(scheme) || colon <= scheme.size()) return false;
  const std::string port = text.substr(colon + 1);
  const bool digits = port.find_first_not_of("0123456789") == std::string::npos;
  return digits && !port.empty() && port.size() <= 5 && std::stoi(port) <= 65535;
}

void read_security(TableReader section, SecurityConfig& security) {
  section.read("coordinator", security.coordinator);
  if (!security.coordinator.empty() && !is_tcp_address(security.coordinator)) {
    section.fail("coordinator", quote(security.coordinator) +
                                    " is not an address; write e.g. "
                                    "\"tcp://host:5570\"");
  }
  section.read("identity", security.identity);
  section.read("coordinator_key", security.coordinator_key);
  section.read("allow", security.allow);
}

void read_output(TableReader section, OutputConfig& output) {
  output.dir = std::filesystem::absolute(output.dir).lexically_normal();
  section.read("dir", output.dir);
  section.read("keep_updates", output.keep_updates);
}

void check_sequences(const Config& config) {
  if (config.model.task == "causal-lm") return;
  for (const auto& [key, is_on] : {std::pair("data.packing", config.data.packing),
                                   std::pair("data.streaming", config.data.streaming)}) {
    if (!is_on) continue;
    throw config_error(config, key, "is for model.task = \"causal-lm\"; remove it");
  }
}

void check_cohort(const Config& config) {
  const auto& federation = config.federation;
  const std::int64_t clients = num_clients(config);
  const std::string cohort_text = std::to_string(federation.cohort);
  if (clients > 0 && federation.cohort > clients) {
    throw config_error(config, "federation.cohort",
                       "asks " + cohort_text + " clients a round, but [[clients]] describes only " +
                           std::to_string(clients) + "; lower it, or raise a count");
  }
  const std::int64_t asked = federation.cohort > 0 ? federation.cohort : clients;
  if (asked > 0 && federation.quorum > asked) {
    throw config_error(config, "federation.quorum",
                       "needs " + std::to_string(federation.quorum) + " updates, but only " +
                           std::to_string(asked) + " clients are asked a round; set it to " +
                           std::to_string(asked) + " or less");
  }
}

}  // namespace

Config load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  Document document(file, overrides);
  Config config;
  config.source = file;
  TableReader top(document);
  read_top(top, config);
  read_model(top.table("model"), config.model);
  read_data(top.table("data"), config.data);
  read_federation(top.table("federation"), config.federation);
  TableReader training = top.table("training");
  read_training(training, config.training);
  read_clients(top.tables("clients"), config);
  read_aggregation(top.table("aggregation"), config.aggregation);
  read_privacy(top.table("privacy"));
  read_client(top.table("client"), config.client);
  read_security(top.table("security"), config.security);
  read_simulation(top.table("simulation"), config.simulation);
  read_output(top.table("output"), config.output);
  document.refuse_unknown_keys();
  config.origins = document.take_origins();
  check_sequences(config);
  check_cohort(config);
  return config;
}

ConfigError config_error(const Config& config, const std::string& key, const std::string& problem) {
  for (std::string at = key; !at.empty();) {
    if (const auto found = config.origins.find(at); found != config.origins.end()) {
      return detail::located_error(found->second, key, problem);
    }
    const std::size_t dot = at.rfind('.');
    at = dot == std::string::npos ? "" : at.substr(0, dot);
  }
  return detail::located_error(config.source.string(), key, problem);
}

std::int64_t num_clients(const Config& config) {
  std::int64_t total = 0;
  for (const auto& group : config.clients) total += group.count;
  return total;
}

bool Config::operator==(const Config& other) const {
  const auto settings = [](const Config& config) {
    return std::tie(config.name, config.seed, config.model, config.data, config.federation,
                    config.training, config.clients, config.aggregation, config.client,
                    config.security, config.simulation, config.output);
  };
  return settings(*this) == settings(other);
}

}  // namespace drystone::core
