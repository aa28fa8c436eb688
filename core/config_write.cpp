#include <set>

#include "core/client_list.h"
#include "core/config.h"
#include "core/config_reader.h"
#include "core/text.h"

namespace drystone::core {
namespace {

std::string toml_value(const std::string& value) { return quote(value); }
std::string toml_value(const std::filesystem::path& value) { return quote(value.string()); }
std::string toml_value(std::int64_t value) { return std::to_string(value); }
std::string toml_value(double value) { return format_double(value); }
std::string toml_value(bool value) { return value ? "true" : "false"; }
std::string toml_value(std::chrono::milliseconds value) {
  return quote(detail::duration_text(value));
}
std::string toml_value(const std::vector<std::string>& values) {
  std::vector<std::string> items;
  items.reserve(values.size());
  for (const auto& value : values) items.push_back(quote(value));
  return "[" + join(items) + "]";
}
std::string toml_value(const OptionValue& value) {
  return std::visit([](const auto& held) { return toml_value(held); }, value);
}

bool is_bare(const std::string& key) {
  return !key.empty() && key.find_first_not_of(
                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789_-") == std::string::npos;
}

using Entry = std::pair<std::string, std::string>;  // key → TOML value
using Entries = std::vector<Entry>;

Entries model_entries(const ModelConfig& model) {
  return {{"task", toml_value(model.task)},
          {"dtype", toml_value(model.dtype)},
          {"quantization", toml_value(model.quantization)},
          {"max_length", toml_value(model.max_length)},
          {"sha256", toml_value(model.sha256)}};
}

Entries data_entries(const DataConfig& data) {
  return {{"labels", toml_value(data.labels)},
          {"partition", toml_value(data.partition)},
          {"concentration", toml_value(data.concentration)},
          {"shards_per_client", toml_value(data.shards_per_client)},
          {"partition_key", toml_value(data.partition_key)},
          {"max_test_examples", toml_value(data.max_test_examples)},
          {"template", toml_value(data.prompt_template)},
          {"loss_on", toml_value(data.loss_on)},
          {"packing", toml_value(data.packing)}};
}

Entries federation_entries(const FederationConfig& federation) {
  const bool half = federation.quorum == kHalf;
  return {{"rounds", toml_value(federation.rounds)},
          {"cohort", toml_value(federation.cohort)},
          {"over_selection", toml_value(federation.over_selection)},
          {"quorum", half ? quote("half") : toml_value(federation.quorum)},
          {"attempts", toml_value(federation.attempts)},
          {"mode", toml_value(federation.mode)}};
}

Entries training_entries(const TrainingConfig& training) {
  const bool all = training.target_modules == std::vector<std::string>{"all-linear"};
  return {{"method", toml_value(training.method)},
          {"rank", toml_value(training.rank)},
          {"alpha", toml_value(training.alpha)},
          {"target_modules", all ? quote("all-linear") : toml_value(training.target_modules)},
          {"epochs", toml_value(training.epochs)},
          {"max_steps", toml_value(training.max_steps)},
          {"batch_size", toml_value(training.batch_size)},
          {"gradient_accumulation", toml_value(training.gradient_accumulation)},
          {"precision", toml_value(training.precision)},
          {"memory_limit", toml_value(training.memory_limit)},
          {"checkpointing", toml_value(training.checkpointing)},
          {"max_grad_norm", toml_value(training.max_grad_norm)},
          {"learning_rate", toml_value(training.learning_rate)},
          {"schedule", toml_value(training.schedule)},
          {"schedule_over", toml_value(training.schedule_over)},
          {"rank_scaling", toml_value(training.rank_scaling)},
          {"warmup", toml_value(training.warmup)},
          {"weight_decay", toml_value(training.weight_decay)},
          {"dropout", toml_value(training.dropout)},
          {"threads", toml_value(training.threads)}};
}

Entries option_entries(const Options& options) {
  Entries entries;
  for (const auto& [key, value] : options) {
    entries.emplace_back(is_bare(key) ? key : quote(key), toml_value(value));
  }
  return entries;
}

std::string compaction_value(const AggregationConfig& aggregation) {
  if (aggregation.compaction == "tolerance") {
    return "{tolerance = " + toml_value(aggregation.tolerance) + "}";
  }
  if (aggregation.compaction == "rank") return "{rank = " + toml_value(aggregation.rank) + "}";
  return toml_value(aggregation.compaction);
}

Entries aggregation_entries(const AggregationConfig& aggregation) {
  return {
      {"rule", toml_value(aggregation.rule)},     {"weights", toml_value(aggregation.weights)},
      {"start", toml_value(aggregation.start)},   {"compaction", compaction_value(aggregation)},
      {"robust", toml_value(aggregation.robust)}, {"max_norm", toml_value(aggregation.max_norm)}};
}

Entries client_entries(const ClientConfig& client) {
  const bool never = client.give_up_after == std::chrono::milliseconds{};
  return {{"reveal", toml_value(client.reveal)},
          {"give_up_after", never ? quote("never") : toml_value(client.give_up_after)},
          {"max_storage", toml_value(client.max_storage)}};
}

void add_path(Entries& entries, const std::string& key, const std::filesystem::path& path) {
  if (!path.empty()) entries.emplace_back(key, toml_value(path));
}

Entries simulation_entries(const SimulationConfig& simulation) {
  Entries entries = {
      {"workers", toml_value(simulation.workers)},
      {"group", simulation.group == 0 ? quote("auto") : toml_value(simulation.group)}};
  add_path(entries, "profiles", simulation.profiles);
  return entries;
}

/// What `entries` says differently from `defaults`, which has the same keys in the same order.
Entries changed(const Entries& entries, const Entries& defaults) {
  Entries result;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i] != defaults[i]) result.push_back(entries[i]);
  }
  return result;
}

void append_lines(std::string& text, const Entries& entries) {
  for (const auto& [key, value] : entries)
    text.append(key).append(" = ").append(value).append("\n");
}

void append_section(std::string& text, const std::string& title, const Entries& entries) {
  if (entries.empty()) return;
  text += "\n" + title + "\n";
  append_lines(text, entries);
}

void append_group(std::string& text, const ClientGroup& group, const Config& config) {
  const TrainingConfig& defaults = config.training;
  Entries entries = {{"count", toml_value(group.count)}};
  if (group.quantization != config.model.quantization) {
    entries.emplace_back("quantization", toml_value(group.quantization));
  }
  if (!group.device.empty()) entries.emplace_back("device", toml_value(group.device));
  for (auto& entry : changed(training_entries(group.training), training_entries(defaults))) {
    entries.push_back(std::move(entry));
  }
  append_section(text, "[[clients]]", entries);
  // Another method inherits no options, so that it must name even those of the defaults.
  const Options inherited = group.training.method == defaults.method ? defaults.options : Options{};
  if (group.training.options != inherited) {
    append_section(text, "[clients.options]", option_entries(group.training.options));
  }
}

/// Keys that came after version 1 of the canonical text, with the value that leaves a run as it was
/// before: the text then is the same, and so are the hashes of older runs.
const std::set<Entry>& later_defaults() {
  static const std::set<Entry> defaults = {
      {"precision", "\"float32\""}, {"memory_limit", "0"}, {"schedule_over", "\"round\""},
      {"rank_scaling", "\"none\""}, {"attempts", "3"},     {"max_norm", "100.0"},
      {"over_selection", "1.0"}};
  return defaults;
}

/// "section.key = value" lines, sorted.
class CanonicalText {
 public:
  void add(const std::string& section, const Entries& entries) {
    for (const auto& [key, value] : entries) {
      if (later_defaults().contains({key, value})) continue;
      std::string line = section.empty() ? "" : section;
      if (!section.empty()) line.append(".");
      lines_.insert(line.append(key).append(" = ").append(value).append("\n"));
    }
  }
  void add(const std::string& section, const TrainingConfig& training) {
    add(section, training_entries(training));
    add(section + ".options", option_entries(training.options));
  }
  std::string text(const std::string& title) const {
    std::string all = title + "\n";
    for (const auto& line : lines_) all += line;
    return all;
  }

 private:
  std::set<std::string> lines_;
};

/// Neighbours with equal training become one group: how the file is cut up does not matter.
std::vector<ClientGroup> merged(const std::vector<ClientGroup>& groups) {
  std::vector<ClientGroup> result;
  for (const auto& group : groups) {
    const bool joins = !result.empty() && result.back().training == group.training &&
                       result.back().quantization == group.quantization;
    if (joins) {
      result.back().count += group.count;
    } else {
      result.push_back(group);
    }
  }
  return result;
}

}  // namespace

std::string to_toml(const Config& config) {
  Entries model = model_entries(config.model);
  add_path(model, "path", config.model.path);
  add_path(model, "adapter", config.model.adapter);
  Entries data = data_entries(config.data);
  data.emplace_back("text_field", toml_value(config.data.text_field));
  data.emplace_back("label_field", toml_value(config.data.label_field));
  data.emplace_back("text_pair_field", toml_value(config.data.text_pair_field));
  data.emplace_back("answer_field", toml_value(config.data.answer_field));
  data.emplace_back("streaming", toml_value(config.data.streaming));
  add_path(data, "cache", config.data.cache);
  add_path(data, "train", config.data.train);
  add_path(data, "test", config.data.test);
  Entries federation = federation_entries(config.federation);
  federation.emplace_back("deadline", toml_value(config.federation.deadline));
  federation.emplace_back("grace", toml_value(config.federation.grace));
  federation.emplace_back("begun_rounds", toml_value(config.federation.begun_rounds));
  add_path(federation, "layout", config.federation.layout);
  add_path(federation, "initial", config.federation.initial);
  Entries security;
  if (!config.security.coordinator.empty()) {
    security.emplace_back("coordinator", toml_value(config.security.coordinator));
  }
  add_path(security, "identity", config.security.identity);
  add_path(security, "coordinator_key", config.security.coordinator_key);
  add_path(security, "allow", config.security.allow);

  std::string text;
  append_lines(text, {{"name", toml_value(config.name)},
                      {"seed", toml_value(static_cast<std::int64_t>(config.seed))}});
  append_section(text, "[model]", model);
  append_section(text, "[data]", data);
  append_section(text, "[federation]", federation);
  append_section(text, "[training]", training_entries(config.training));
  append_section(text, "[training.options]", option_entries(config.training.options));
  for (const auto& group : config.clients) append_group(text, group, config);
  append_section(text, "[aggregation]", aggregation_entries(config.aggregation));
  append_section(text, "[client]", client_entries(config.client));
  append_section(text, "[security]", security);
  append_section(text, "[simulation]", simulation_entries(config.simulation));
  append_section(text, "[output]",
                 {{"dir", toml_value(config.output.dir)},
                  {"keep_updates", toml_value(config.output.keep_updates)}});
  return text;
}

std::string semantic_text(const Config& config) {
  CanonicalText canonical;
  FederationConfig federation = config.federation;
  if (federation.begun_rounds > 0) federation.rounds = federation.begun_rounds;
  canonical.add("", {{"name", toml_value(config.name)}, {"seed", std::to_string(config.seed)}});
  canonical.add("model", model_entries(config.model));
  canonical.add("data", data_entries(config.data));
  canonical.add("federation", federation_entries(federation));
  canonical.add("training", config.training);
  const auto groups = merged(config.clients);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::string section = "clients." + std::to_string(i);
    canonical.add(section, {{"count", toml_value(groups[i].count)}});
    if (groups[i].quantization != config.model.quantization) {
      canonical.add(section, {{"quantization", toml_value(groups[i].quantization)}});
    }
    canonical.add(section, groups[i].training);
  }
  canonical.add("aggregation", aggregation_entries(config.aggregation));
  return canonical.text("drystone configuration 1");
}

std::string settings_text(const Config& config, const ListedClient& client) {
  TrainingConfig training = client.training;  // without what only sets speed and memory
  training.threads = TrainingConfig{}.threads;
  training.memory_limit = TrainingConfig{}.memory_limit;
  training.checkpointing = TrainingConfig{}.checkpointing;
  CanonicalText canonical;
  canonical.add("", {{"seed", std::to_string(config.seed)}});
  canonical.add("model", {{"task", toml_value(config.model.task)},
                          {"dtype", toml_value(config.model.dtype)},
                          {"quantization", toml_value(client.quantization)},
                          {"max_length", toml_value(config.model.max_length)}});
  canonical.add("data", {{"labels", toml_value(config.data.labels)},
                         {"template", toml_value(config.data.prompt_template)},
                         {"loss_on", toml_value(config.data.loss_on)},
                         {"packing", toml_value(config.data.packing)}});
  canonical.add("federation", {{"rounds", toml_value(config.federation.rounds)}});
  canonical.add("aggregation", {{"rule", toml_value(config.aggregation.rule)},
                                {"start", toml_value(config.aggregation.start)}});
  canonical.add("training", training);
  return canonical.text("drystone settings 1");
}

}  // namespace drystone::core
