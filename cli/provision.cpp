#include "cli/provision.h"

#include <map>

#include "adapters/registry.h"
#include "client/contract.h"
#include "client/federated_data.h"
#include "client/initial_version.h"
#include "client/model_classes.h"
#include "client/workbench.h"
#include "coordinator/coordinator.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/files.h"
#include "core/temporary_files.h"
#include "crypto/roster.h"
#include "data/jsonl_writer.h"
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

/// A folder that takes its final name at the end, and is gone if that is never reached.
class Staging {
 public:
  explicit Staging(fs::path target)
      : target_(std::move(target)), folder_(core::temporary_beside(target_)) {}
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  const fs::path& folder() const { return folder_; }
  void commit() {
    std::error_code error;
    fs::rename(folder_, target_, error);
    if (error) throw core::IoError(target_.string() + ": cannot make: " + error.message());
  }

 private:
  fs::path target_;
  fs::path folder_;
};

class Provisioner {
 public:
  /// @param known  of an earlier run of the command in `out`; empty: a new federation
  Provisioner(core::Config config, const ProvisionOptions& options, fs::path out,
              crypto::Roster known)
      : config_(std::move(config)),
        options_(options),
        out_(std::move(out)),
        known_(std::move(known)),
        listed_(core::list_clients(config_)) {}

  /// @return the parties' names
  std::vector<std::string> run();

 private:
  void resolve_labels();
  std::map<std::string, client::Records> shards() const;
  crypto::PublicIdentity identity_of(const std::string& name);
  void add_party(const std::string& name, const core::TrainingConfig& training, crypto::Role role,
                 std::int64_t num_examples);
  void write_client(const core::ListedClient& listed, const client::Records& examples,
                    bool evaluates);
  void write_coordinator(const client::Workbench& workbench);

  core::Config config_;
  const ProvisionOptions& options_;
  fs::path out_;
  crypto::Roster known_;
  std::vector<core::ListedClient> listed_;
  aggregation::AdapterLayout layout_;
  crypto::Roster roster_;
  std::vector<std::string> parties_;
};

std::vector<std::string> Provisioner::run() {
  bind_address(options_);  // refused before anything is made
  client::check_methods(config_);
  resolve_labels();
  const client::Workbench workbench(client::workbench_config(config_, "cpu"));
  config_.model.sha256 = workbench.base_sha256();
  std::vector<core::TrainingConfig> trainings;
  for (const core::ListedClient& listed : listed_) trainings.push_back(listed.training);
  layout_ = workbench.layout(trainings);

  parties_.emplace_back(kCoordinatorName);
  const fs::path keys = make_folder(out_ / kCoordinatorName) / "keys";
  if (!options_.update) {
    crypto::save_identity(crypto::generate_identity(kCoordinatorName), keys);
  }
  const auto shares = shards();
  for (const core::ListedClient& listed : listed_) {
    const auto share = shares.find(listed.name);
    const auto num_examples = share == shares.end() ? 0 : std::ssize(share->second);
    add_party(listed.name, listed.training, crypto::Role::Train, num_examples);
    write_client(listed, share == shares.end() ? client::Records{} : share->second,
                 /*evaluates=*/false);
  }
  if (!config_.data.test.empty()) {
    add_party(core::kEvaluatorName, config_.training, crypto::Role::Evaluate, 0);
    write_client({core::kEvaluatorName, config_.training, config_.model.quantization},
                 client::load_test(config_), /*evaluates=*/true);
  }
  write_coordinator(workbench);
  return parties_;
}

void Provisioner::resolve_labels() {
  if (config_.model.task != "classification") return;
  if (config_.data.train.empty() && config_.data.labels.empty()) {
    throw core::config_error(config_, "data.labels",
                             "is missing, and without data.train no text tells the classes; list "
                             "them in the order of their ids, e.g. labels = [\"no\", \"yes\"]");
  }
  config_.data.labels = client::resolve_classes(config_);
}

/// Each client's share of data.train; empty where the clients bring their own.
std::map<std::string, client::Records> Provisioner::shards() const {
  if (config_.data.train.empty()) return {};
  std::vector<std::string> names;
  for (const core::ListedClient& listed : listed_) names.push_back(listed.name);
  return client::split(config_, client::load_train(config_), names);
}

/// What others know of the party, whose secret keys may have left this machine long ago.
crypto::PublicIdentity Provisioner::identity_of(const std::string& name) {
  if (const auto found = known_.clients.find(name); found != known_.clients.end()) {
    return found->second.identity;
  }
  const crypto::Identity identity = crypto::generate_identity(name);
  crypto::save_identity(identity, out_ / name / "keys");
  return identity.public_part;
}

void Provisioner::add_party(const std::string& name, const core::TrainingConfig& training,
                            crypto::Role role, std::int64_t num_examples) {
  const fs::path folder = make_folder(out_ / name);
  parties_.push_back(name);
  crypto::RosterEntry entry{.role = role, .max_examples = num_examples};
  const bool is_known = known_.clients.contains(name);
  if (is_known) entry = known_.clients.at(name);
  entry.identity = identity_of(name);
  entry.role = role;
  entry.max_rank =
      role == crypto::Role::Train ? adapters::export_rank(adapters::spec_of(training)) : 0;
  roster_.clients[name] = std::move(entry);
  const std::string known = std::string(kCoordinatorName) + ".pub";
  fs::copy_file(out_ / kCoordinatorName / "keys" / known, folder / "keys" / known,
                fs::copy_options::overwrite_existing);
}

void Provisioner::write_client(const core::ListedClient& listed, const client::Records& examples,
                               bool evaluates) {
  const std::string& name = listed.name;
  const fs::path folder = out_ / name;
  core::Config config = config_;
  config.clients.clear();
  config.training = listed.training;
  config.model.quantization = listed.quantization;
  const std::string file = evaluates ? "test.jsonl" : "train.jsonl";
  const bool has_own = !evaluates && config_.data.train.empty();
  if (!has_own && !fs::exists(folder / file)) {
    data::write_jsonl(folder / file, examples, client::record_fields(config_));
  }
  config.data.train = evaluates ? "" : file;
  config.data.test = evaluates ? file : "";
  config.data.max_test_examples = 0;
  config.security = {.coordinator = options_.address,
                     .identity = "keys/" + name,
                     .coordinator_key = std::string("keys/") + kCoordinatorName + ".pub",
                     .allow = {}};
  config.output.dir = "run";
  if (!options_.model_path.empty()) config.model.path = options_.model_path;
  config.federation.layout = "layout.json";
  client::pin({.federation = coordinator::federation_id(config_),
               .max_rank = client::version_rank(config_)},
              folder / "run" / client::kContractFile);
  aggregation::write_layout(folder / "layout.json", layout_);
  if (options_.copy_model) {
    fs::copy(config_.model.path, folder / "model",
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    config.model.path = "model";
  }
  write_text(folder / "client.toml", core::to_toml(config));
}

void Provisioner::write_coordinator(const client::Workbench& workbench) {
  const fs::path folder = out_ / kCoordinatorName;
  crypto::save_roster(roster_, folder / "roster.toml");
  aggregation::write_layout(folder / "layout.json", layout_);
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
  const fs::path roster = options.out / kCoordinatorName / "roster.toml";
  const bool is_new = !fs::exists(options.out) || fs::is_empty(options.out);
  if (options.update && !fs::exists(roster)) {
    throw core::ConfigError("--update: " + roster.string() +
                            ": no such file; name the folder that `drystone provision` made");
  }
  if (!options.update && !is_new) {
    throw core::ConfigError(options.out.string() +
                            ": already holds files; write its configurations anew by --update, "
                            "which keeps keys and data, or choose another --out");
  }
  std::vector<std::string> parties;
  if (options.update) {
    parties =
        Provisioner(std::move(config), options, options.out, crypto::load_roster(roster)).run();
  } else {
    fs::path out = options.out.lexically_normal();
    if (!out.has_filename()) out = out.parent_path();  // "parties/"
    Staging staging(out);
    parties = Provisioner(std::move(config), options, staging.folder(), {}).run();
    staging.commit();
  }
  std::vector<fs::path> folders;
  for (const std::string& party : parties) folders.push_back(options.out / party);
  return folders;
}

}  // namespace drystone::cli
