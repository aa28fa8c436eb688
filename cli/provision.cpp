#include "cli/provision.h"

#include "adapters/registry.h"
#include "client/federated_data.h"
#include "client/initial_version.h"
#include "client/workbench.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/files.h"
#include "crypto/roster.h"
#include "data/jsonl_writer.h"
#include "data/label_map.h"
#include "tensors/factor_set_io.h"
#include "wire/address.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kCoordinatorName = "coordinator";

fs::path make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder / "keys", error);
  if (error) throw core::IoError(folder.string() + ": cannot create: " + error.message());
  return folder;
}

void write_text(const fs::path& file, const std::string& text) {
  core::write_file_atomic(file, core::as_bytes(text));
}

// Where an address is a number or this machine alone, it is listened to; of a name only the
// server's machine knows which of its addresses are meant: all.
std::string bind_address(const ProvisionOptions& options) {
  if (!options.bind.empty()) return options.bind;
  const wire::Address address = wire::parse_address(options.address);
  if (wire::is_numeric(address.host) || wire::is_loopback(address.host)) return options.address;
  return "tcp://*:" + address.port;
}

class Provisioner {
 public:
  Provisioner(core::Config config, const ProvisionOptions& options)
      : config_(std::move(config)), options_(options), listed_(core::list_clients(config_)) {}

  std::vector<fs::path> run();

 private:
  void add_party(const std::string& name, const core::TrainingConfig& training, crypto::Role role,
                 std::int64_t num_examples);
  void write_client(const core::ListedClient& listed, const client::Records& examples,
                    bool evaluates);
  void write_coordinator(const client::Workbench& workbench);

  core::Config config_;
  const ProvisionOptions& options_;
  std::vector<core::ListedClient> listed_;
  crypto::Identity coordinator_;
  crypto::Roster roster_;
  std::vector<fs::path> folders_;
};

std::vector<fs::path> Provisioner::run() {
  bind_address(options_);  // refused before anything is made
  if (fs::exists(options_.out) && !fs::is_empty(options_.out)) {
    throw core::ConfigError(
        options_.out.string() +
        ": already holds files, and keys are never overwritten; choose another --out");
  }
  client::check_methods(config_);
  const client::Records train = client::load_train(config_);
  if (config_.model.task == "classification") {
    config_.data.labels = data::resolve_labels(config_.data).names();
  }
  const client::Workbench workbench(client::workbench_config(config_, "cpu"));
  config_.model.sha256 = workbench.base_sha256();
  config_.model.path = fs::absolute(config_.model.path);

  coordinator_ = crypto::generate_identity(kCoordinatorName);
  folders_.push_back(make_folder(options_.out / kCoordinatorName));
  crypto::save_identity(coordinator_, folders_.front() / "keys");
  std::vector<std::string> names;
  for (const core::ListedClient& listed : listed_) names.push_back(listed.name);
  const auto shards = client::split(config_, train, names);
  for (const core::ListedClient& listed : listed_) {
    const client::Records& shard = shards.at(listed.name);
    add_party(listed.name, listed.training, crypto::Role::Train,
              static_cast<std::int64_t>(shard.size()));
    write_client(listed, shard, /*evaluates=*/false);
  }
  if (!config_.data.test.empty()) {
    add_party(core::kEvaluatorName, config_.training, crypto::Role::Evaluate, 0);
    write_client({core::kEvaluatorName, config_.training, config_.model.quantization},
                 client::load_test(config_), /*evaluates=*/true);
  }
  write_coordinator(workbench);
  return folders_;
}

void Provisioner::add_party(const std::string& name, const core::TrainingConfig& training,
                            crypto::Role role, std::int64_t num_examples) {
  const fs::path folder = make_folder(options_.out / name);
  folders_.push_back(folder);
  const crypto::Identity identity = crypto::generate_identity(name);
  crypto::save_identity(identity, folder / "keys");
  roster_.clients[name] = {.identity = identity.public_part,
                           .role = role,
                           .max_rank = role == crypto::Role::Train
                                           ? adapters::export_rank(adapters::spec_of(training))
                                           : 0,
                           .max_examples = num_examples};
  const std::string known = std::string(kCoordinatorName) + ".pub";
  fs::copy_file(folders_.front() / "keys" / known, folder / "keys" / known);
}

void Provisioner::write_client(const core::ListedClient& listed, const client::Records& examples,
                               bool evaluates) {
  const std::string& name = listed.name;
  const fs::path folder = options_.out / name;
  core::Config config = config_;
  config.clients.clear();
  config.training = listed.training;
  config.model.quantization = listed.quantization;
  const std::string file = evaluates ? "test.jsonl" : "train.jsonl";
  data::write_jsonl(folder / file, examples, client::record_fields(config_));
  config.data.train = evaluates ? "" : file;
  config.data.test = evaluates ? file : "";
  config.data.max_test_examples = 0;
  config.security = {.coordinator = options_.address,
                     .identity = "keys/" + name,
                     .coordinator_key = std::string("keys/") + kCoordinatorName + ".pub",
                     .allow = {}};
  config.output.dir = "run";
  if (options_.copy_model) {
    fs::copy(config_.model.path, folder / "model", fs::copy_options::recursive);
    config.model.path = "model";
  }
  write_text(folder / "client.toml", core::to_toml(config));
}

void Provisioner::write_coordinator(const client::Workbench& workbench) {
  const fs::path& folder = folders_.front();
  crypto::save_roster(roster_, folder / "roster.toml");
  std::vector<core::TrainingConfig> trainings;
  for (const core::ListedClient& listed : listed_) trainings.push_back(listed.training);
  aggregation::write_layout(folder / "layout.json", workbench.layout(trainings));
  tensors::write_factor_set(folder / "initial.safetensors",
                            client::initial_version(config_, workbench));
  core::Config config = config_;
  config.federation.layout = "layout.json";
  config.federation.initial = "initial.safetensors";
  config.security = {.coordinator = bind_address(options_),
                     .identity = std::string("keys/") + kCoordinatorName,
                     .coordinator_key = {},
                     .allow = "roster.toml"};
  config.output.dir = "run";
  write_text(folder / "coordinator.toml", core::to_toml(config));
}

}  // namespace

std::vector<fs::path> provision(core::Config config, const ProvisionOptions& options) {
  return Provisioner(std::move(config), options).run();
}

}  // namespace drystone::cli
