// drystone preflight of a federation that one machine simulates.

#include <map>
#include <memory>

#include "adapters/registry.h"
#include "aggregation/rule_check.h"
#include "cli/preflight.h"
#include "cli/preflight_shared.h"
#include "client/federated_data.h"
#include "client/initial_version.h"
#include "client/input_check.h"
#include "client/rank_check.h"
#include "core/client_list.h"
#include "core/devices.h"
#include "core/text.h"

namespace drystone::cli {

namespace {

class SimulationPreflight {
 public:
  SimulationPreflight(core::Config config, std::string device, Preflight& preflight)
      : config_(std::move(config)), device_(std::move(device)), preflight_(preflight) {}
  void run();

 private:
  void check_data();
  void check_clients();

  core::Config config_;
  std::string device_;
  Preflight& preflight_;
  std::unique_ptr<training::Workbench> workbench_;
  client::Records train_;
};

void SimulationPreflight::run() {
  preflight_.check("configuration", [&] {
    aggregation::check_rule(config_);
    client::check_methods(config_);
    return config_.source.string() + ", a simulation of " +
           std::to_string(core::ClientList(config_).size()) + " clients";
  });
  check_clock(config_, preflight_);
  check_writable(config_.output.dir, "output.dir", preflight_);
  workbench_ = check_model(config_, device_, preflight_);
  check_data();
  if (workbench_ == nullptr) return preflight_.skip("ranks, memory, disk", "model");
  check_clients();
}

void SimulationPreflight::check_data() {
  const bool is_read = preflight_.check("data files", [&] {
    client::check_simulation_inputs(config_);
    if (!client::streams(config_)) train_ = client::load_train(config_);
    return config_.data.train.string();
  });
  if (!is_read || workbench_ == nullptr) {
    return preflight_.skip("data", is_read ? "model" : "data files");
  }
  if (client::streams(config_)) {
    return preflight_.add(
        {Verdict::Ok, "data.train", "streamed: its texts are looked at when they are used", ""});
  }
  config_.data.labels = client::workbench_config(config_, "cpu").labels;
  check_records(config_, "data.train", train_, *workbench_, preflight_);
  if (!config_.data.test.empty()) {
    check_records(config_, "data.test", client::load_test(config_), *workbench_, preflight_);
  }
  preflight_.check("partition", [&] {
    const auto parts =
        client::partition_records(config_, train_, core::ClientList(config_).names());
    return config_.data.partition + ", " + std::to_string(train_.size()) + " records";
  });
}

void SimulationPreflight::check_clients() {
  const core::ClientList list(config_);
  const std::vector<core::ListedClient> firsts = list.first_of_each_kind();
  aggregation::AdapterLayout layout;
  const bool fits = preflight_.check("ranks", [&] {
    std::vector<core::TrainingConfig> trainings;
    trainings.reserve(firsts.size());
    for (const core::ListedClient& listed : firsts) trainings.push_back(listed.training);
    layout = workbench_->layout(trainings, client::initial_version(config_, *workbench_));
    client::check_ranks(config_, firsts, layout);
    return std::to_string(firsts.size()) + " kinds of clients, " +
           std::to_string(layout.modules.size()) + " modules";
  });
  if (!train_.empty() && preflight_.check("examples", [&] {
        workbench_->add_examples("all", train_);
        return std::string();
      })) {
    for (const core::ListedClient& listed : firsts) {
      check_memory(listed.training, *workbench_, "all", "memory of " + listed.name, preflight_);
    }
  }
  if (!fits) return preflight_.skip("disk", "ranks");
  std::vector<std::int64_t> ranks;
  for (std::size_t kind = 0; kind < list.num_kinds(); ++kind) {
    const std::int64_t rank = adapters::export_rank(adapters::spec_of(firsts[kind].training));
    ranks.insert(ranks.end(), list.count(kind), rank);
  }
  check_disk(config_.output.dir,
             disk_need(config_, layout, std::move(ranks),
                       static_cast<std::uint64_t>(config_.federation.rounds)),
             "free some, choose another output.dir, or set output.keep_updates = false",
             preflight_);
}

}  // namespace

void check_simulation(const core::Config& config, const std::string& device, Preflight& preflight) {
  SimulationPreflight(config, device, preflight).run();
}

}  // namespace drystone::cli
