#include "cli/provision.h"

#include <map>

#include "adapters/registry.h"
#include "client/contract.h"
#include "client/federated_data.h"
#include "client/initial_version.h"
#include "client/input_check.h"
#include "client/rank_check.h"
#include "coordinator/federation_id.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/files.h"
#include "core/temporary_files.h"
#include "core/written_text.h"
#include "crypto/roster.h"
#include "data/jsonl_writer.h"
#include "tensors/factor_set_io.h"
#include "training/model_classes.h"
#include "training/workbench.h"
#include "wire/address.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

/// A deployed federation has machines of its own, and this one's paths mean nothing there.
void forget_simulation(core::Config& config) {
  config.simulation = {};
  for (core::ClientGroup& group : config.clients) group.device.clear();
}

constexpr const char* kCoordinatorName = "coordinator";
constexpr const char* kCopiedModel = "model";

fs::path make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder / "keys", error);
  if (error) throw core::file_error(folder, "the folder cannot be made", error);
  return folder;
}

void write_text(const fs::path& file, const std::string& text) {
  core::write_file_atomic(file, core::as_bytes(text));
}

// Where an address is a number or this machine alone, it is listened to; of a name only the
// server's machine knows which of its addresses are meant: all.
std::string bind_for(const std::string& text) {
  const wire::Address address = wire::parse_address(text);
  if (wire::is_numeric(address.host) || wire::is_loopback(address.host)) return text;
  return "tcp://*:" + address.port;
}

bool is_reachable(const std::string& bind) {
  const std::string host = wire::parse_address(bind).host;
  return host != "*" && host != "0.0.0.0" && host != "::";
}

/// What the file of a client's machine says of it.
struct Place {
  std::string address;
  fs::path model;  ///< as written; empty: where it lies on this machine
};

/// What an earlier run of the command wrote down; empty without one.
struct Places {
  std::string bind;
  std::map<std::string, Place> clients;
};

/// @throws core::ConfigError  a file there that is no configuration
Places read_places(const fs::path& out, const crypto::Roster& known) {
  Places places;
  fs::path base;
  const fs::path server = out / kCoordinatorName / "coordinator.toml";
  if (fs::exists(server)) {
    const core::Config config = core::load_config(server);
    places.bind = config.security.coordinator;
    base = config.model.path;
  }
  for (const auto& [name, entry] : known.clients) {
    const fs::path file = out / name / "client.toml";
    if (!fs::exists(file)) continue;
    const core::Config config = core::load_config(file);
    const fs::path model = core::written_text(file, "model.path");
    Place place{.address = config.security.coordinator, .model = model.lexically_normal()};
    if (place.model == base) place.model.clear();
    places.clients[name] = std::move(place);
  }
  return places;
}

/// A new party's place. @throws core::ConfigError  nothing tells the coordinator's address
Place usual_place(const ProvisionOptions& options, const Places& places) {
  if (!places.clients.empty()) return places.clients.begin()->second;
  if (!options.update || !options.address.empty()) return {.address = kDefaultAddress, .model = {}};
  if (!places.bind.empty() && is_reachable(places.bind)) {
    return {.address = places.bind, .model = {}};
  }
  throw core::ConfigError("--update: no client.toml in " + options.out.string() +
                          " says where clients reach the coordinator; give --address");
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
    if (error) throw core::file_error(target_, "the folder cannot be made", error);
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
        places_(read_places(out_, known_)),
        usual_place_(usual_place(options_, places_)),
        listed_(core::list_clients(config_)) {}

  /// @return the parties' names
  std::vector<std::string> run();

 private:
  std::string bind() const;
  Place place_of(const std::string& name) const;
  bool inherits_copy(const std::string& name) const;
  void place_model(const std::string& name, core::ModelConfig& model) const;
  void resolve_labels();
  std::map<std::string, client::Records> shards() const;
  crypto::PublicIdentity identity_of(const std::string& name);
  void add_party(const std::string& name, const core::TrainingConfig& training, crypto::Role role,
                 std::int64_t num_examples);
  void write_client(const core::ListedClient& listed, const client::Records& examples,
                    bool evaluates);
  void write_coordinator();

  core::Config config_;
  const ProvisionOptions& options_;
  fs::path out_;
  crypto::Roster known_;
  Places places_;
  Place usual_place_;
  std::vector<core::ListedClient> listed_;
  tensors::FactorSet initial_;
  aggregation::AdapterLayout layout_;
  crypto::Roster roster_;
  std::vector<std::string> parties_;
};

std::vector<std::string> Provisioner::run() {
  wire::check_reachable(options_.address.empty() ? usual_place_.address : options_.address);
  wire::parse_address(bind());  // refused before anything is made
  client::check_methods(config_);
  client::check_inputs(config_);
  resolve_labels();
  const training::Workbench workbench(client::workbench_config(config_, "cpu"));
  config_.model.sha256 = workbench.base_sha256();
  std::vector<core::TrainingConfig> trainings;
  trainings.reserve(listed_.size());
  for (const core::ListedClient& listed : listed_) trainings.push_back(listed.training);
  initial_ = client::initial_version(config_, workbench);
  layout_ = workbench.layout(trainings, initial_);
  client::check_ranks(config_, listed_, layout_);

  const auto shares = shards();
  client::Records test;
  if (!config_.data.test.empty()) test = client::load_test(config_);
  client::check_labels(config_, test);

  parties_.emplace_back(kCoordinatorName);
  const fs::path keys = make_folder(out_ / kCoordinatorName) / "keys";
  if (!options_.update) {
    crypto::save_identity(crypto::generate_identity(kCoordinatorName), keys);
  }
  for (const core::ListedClient& listed : listed_) {
    const auto share = shares.find(listed.name);
    const auto num_examples = share == shares.end() ? 0 : std::ssize(share->second);
    add_party(listed.name, listed.training, crypto::Role::Train, num_examples);
    write_client(listed, share == shares.end() ? client::Records{} : share->second,
                 /*evaluates=*/false);
  }
  if (!config_.data.test.empty()) {
    add_party(core::kEvaluatorName, config_.training, crypto::Role::Evaluate, 0);
    write_client({core::kEvaluatorName, config_.training, config_.model.quantization}, test,
                 /*evaluates=*/true);
  }
  write_coordinator();
  return parties_;
}

std::string Provisioner::bind() const {
  if (!options_.bind.empty()) return options_.bind;
  // What was made of the earlier address follows the new one.
  const bool is_own = !places_.bind.empty() && places_.bind != bind_for(usual_place_.address);
  if (is_own) return places_.bind;
  return bind_for(options_.address.empty() ? usual_place_.address : options_.address);
}

Place Provisioner::place_of(const std::string& name) const {
  const auto found = places_.clients.find(name);
  Place place = found == places_.clients.end() ? usual_place_ : found->second;
  if (!options_.address.empty()) place.address = options_.address;
  if (!options_.model_path.empty()) place.model = options_.model_path;
  if (options_.copy_model) place.model = kCopiedModel;
  return place;
}

/// Whether a new party comes to others that the model was copied to.
bool Provisioner::inherits_copy(const std::string& name) const {
  if (places_.clients.empty() || places_.clients.contains(name)) return false;
  return options_.model_path.empty() && usual_place_.model == kCopiedModel &&
         fs::exists(out_ / places_.clients.begin()->first / kCopiedModel);
}

void Provisioner::place_model(const std::string& name, core::ModelConfig& model) const {
  if (options_.copy_model || inherits_copy(name)) {
    fs::copy(config_.model.path, out_ / name / kCopiedModel,
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  const Place place = place_of(name);
  if (!place.model.empty()) model.path = place.model;
}

void Provisioner::resolve_labels() {
  if (config_.model.task != "classification") return;
  if (config_.data.train.empty() && config_.data.labels.empty()) {
    throw core::config_error(config_, "data.labels",
                             "is missing, and without data.train no text tells the classes; list "
                             "them in the order of their ids, e.g. labels = [\"no\", \"yes\"]");
  }
  config_.data.labels = training::resolve_classes(config_);
}

/// Each client's share of data.train; empty where the clients bring their own.
std::map<std::string, client::Records> Provisioner::shards() const {
  if (config_.data.train.empty()) return {};
  std::vector<std::string> names;
  names.reserve(listed_.size());
  for (const core::ListedClient& listed : listed_) names.push_back(listed.name);
  const client::Records train = client::load_train(config_);
  client::check_labels(config_, train);
  return client::split(config_, train, names);
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
  config.security = {.coordinator = place_of(name).address,
                     .identity = "keys/" + name,
                     .coordinator_key = std::string("keys/") + kCoordinatorName + ".pub",
                     .allow = {}};
  forget_simulation(config);
  config.output.dir = "run";
  place_model(name, config.model);
  config.federation.layout = "layout.json";
  client::pin({.federation = coordinator::federation_id(config_),
               .max_rank = client::version_rank(config_)},
              folder / "run" / client::kContractFile);
  aggregation::write_layout(folder / "layout.json", layout_);
  write_text(folder / "client.toml", core::to_toml(config));
}

void Provisioner::write_coordinator() {
  const fs::path folder = out_ / kCoordinatorName;
  crypto::save_roster(roster_, folder / "roster.toml");
  aggregation::write_layout(folder / "layout.json", layout_);
  tensors::write_factor_set(folder / "initial.safetensors", initial_);
  core::Config config = config_;
  config.federation.layout = "layout.json";
  config.federation.initial = "initial.safetensors";
  forget_simulation(config);
  config.security = {.coordinator = bind(),
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
  folders.reserve(parties.size());
  for (const std::string& party : parties) folders.push_back(options.out / party);
  return folders;
}

}  // namespace drystone::cli
