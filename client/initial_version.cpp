#include "client/initial_version.h"

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "adapters/methods/lora_prune.h"
#include "adapters/registry.h"
#include "aggregation/compaction.h"
#include "aggregation/rules.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "tensors/adapter_labels.h"
#include "tensors/peft_io.h"
#include "tensors/peft_names.h"
#include "tensors/pruning.h"

namespace drystone::client {

namespace {

/// Runs write their classes beside the adapter: the same ones in the same order are needed here.
void check_labels(const core::Config& config) {
  if (config.model.task != "classification") return;
  const auto labels = tensors::read_labels(config.model.adapter);
  if (!labels || *labels == config.data.labels) return;
  throw core::config_error(config, "model.adapter",
                           (config.model.adapter / tensors::kLabelsFile).string() +
                               " lists other classes than data.labels (" +
                               core::join(config.data.labels) +
                               "), or in another order; leave data.labels out to take its list");
}

void check_trains(const core::Config& config) {
  for (const core::ListedClient& listed : core::ClientList(config).first_of_each_kind()) {
    if (adapters::find_method(listed.training.method).trains) continue;
    throw core::config_error(config, "model.adapter",
                             core::quote(listed.training.method) +
                                 " needs a trained adapter; set it to the folder global/ of a "
                                 "finished run");
  }
}

/// The plan that clients which prune follow, all of them the same one.
void add_pruning_plan(const core::Config& config, tensors::FactorSet& version) {
  std::optional<core::Options> first;
  std::int64_t num_pruning = 0;
  const core::ClientList clients(config);
  for (std::size_t kind = 0; kind < clients.num_kinds(); ++kind) {
    const core::ListedClient client = clients[clients.first(kind)];
    const auto plan =
        adapters::pruning_plan(adapters::spec_of(client.training), config.federation.rounds);
    if (!plan) continue;
    if (first && *first != client.training.options) {
      throw core::config_error(config, "clients",
                               "clients of " + core::quote(client.training.method) +
                                   " have different options, but all follow "
                                   "one mask; give them in [training.options] alone");
    }
    first = client.training.options;
    num_pruning += static_cast<std::int64_t>(clients.count(kind));
    version.dense[std::string(tensors::kStatistics) + std::string(tensors::kPruningPlan)] =
        tensors::to_tensor(*plan);
  }
  const auto all = static_cast<std::int64_t>(clients.size());
  if (num_pruning == 0 || num_pruning == all) return;
  core::log_warning("some clients prune, and their mask holds for everybody's model",
                    {{"pruning", num_pruning}, {"clients", all}});
}

/// An adapter has no room for what was pruned beside it.
void refuse_pruned(const core::Config& config) {
  if (!std::filesystem::exists(config.model.adapter / tensors::kMaskFile)) return;
  throw core::config_error(
      config, "model.adapter",
      config.model.adapter.string() +
          " is of a pruned model; run drystone merge and start from its result");
}

/// Training keeps everything frozen but linear layers' factors and the classification head.
void refuse_outside_layers(const core::Config& config, const tensors::FactorSet& adapter,
                           const tensors::FactorSet& version) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : adapter.dense) {
    if (!version.dense.contains(name)) names.insert(name);
  }
  for (const auto& [name, factors] : adapter.modules) {
    if (name == "lm_head" || tensors::is_embedding(name)) names.insert(name);
  }
  if (names.empty()) return;
  throw core::config_error(config, "model.adapter",
                           config.model.adapter.string() + " changes " +
                               core::join(std::vector<std::string>(names.begin(), names.end())) +
                               ", which stays frozen here; run drystone merge and start from its "
                               "result");
}

/// Where factors are averaged a version is what clients send: what nobody trains would be lost.
void refuse_untrained(const core::Config& config, const training::Workbench& workbench,
                      const tensors::FactorSet& adapter) {
  const bool replaces =
      aggregation::find_rule(config.aggregation).mode == core::PublishMode::Replace;
  if (!replaces) return;
  std::vector<core::TrainingConfig> trainings;
  for (const core::ListedClient& listed : core::ClientList(config).first_of_each_kind()) {
    trainings.push_back(listed.training);
  }
  const aggregation::AdapterLayout trained = workbench.layout(trainings, {});
  std::vector<std::string> names;
  for (const auto& [name, factors] : adapter.modules) {
    if (!trained.modules.contains(name)) names.push_back(name);
  }
  if (names.empty()) return;
  throw core::config_error(config, "model.adapter",
                           config.model.adapter.string() + " adapts " + names.front() +
                               (names.size() > 1 ? " and others" : "") +
                               ", which training.target_modules leaves out: aggregation.rule " +
                               core::quote(config.aggregation.rule) +
                               " would drop it; train it as well, or use \"flora\"");
}

}  // namespace

tensors::FactorSet initial_version(const core::Config& config,
                                   const training::Workbench& workbench) {
  const training::GlobalStatePtr pristine = workbench.pristine();
  tensors::FactorSet version{.modules = {}, .dense = pristine->dense()};
  add_pruning_plan(config, version);
  if (config.model.adapter.empty()) {
    check_trains(config);
    return version;
  }
  check_labels(config);
  refuse_pruned(config);
  const tensors::FactorSet adapter = tensors::read_peft(config.model.adapter);
  refuse_outside_layers(config, adapter, version);
  refuse_untrained(config, workbench, adapter);
  for (const auto& [name, factors] : adapter.modules) {
    version.modules[name] = aggregation::compact(factors, {}).factors;
  }
  for (const auto& [name, tensor] : adapter.dense) version.dense[name] = tensor;
  try {
    pristine->apply(0, core::PublishMode::Add, version);
  } catch (const core::InvalidArgument& error) {
    throw core::config_error(
        config, "model.adapter",
        config.model.adapter.string() + " does not fit the model: " + error.what());
  }
  return version;
}

}  // namespace drystone::client
