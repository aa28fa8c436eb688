// drystone preflight of a deployed client.

#include <chrono>
#include <memory>

#include "aggregation/layout.h"
#include "aggregation/rule_check.h"
#include "aggregation/version_checks.h"
#include "cli/preflight.h"
#include "cli/preflight_shared.h"
#include "client/configuration_check.h"
#include "client/contract.h"
#include "client/input_check.h"
#include "client/rank_check.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/text.h"
#include "crypto/identity.h"
#include "wire/address.h"
#include "wire/reachability.h"
#include "wire/zmq_transport.h"

namespace drystone::cli {

namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 5s;
constexpr const char* kTest = "test";

class ClientPreflight {
 public:
  ClientPreflight(const core::Config& config, std::string device, Preflight& preflight)
      : config_(config), device_(std::move(device)), preflight_(preflight) {}
  void run();

 private:
  void check_keys();
  void check_coordinator_is_there();
  void handshake();
  void check_data();
  void check_own(const std::string& key, const client::Records& records, const std::string& name);
  void check_contract();

  const core::Config& config_;
  std::string device_;
  Preflight& preflight_;
  std::unique_ptr<crypto::Identity> identity_;
  std::unique_ptr<crypto::PublicIdentity> coordinator_;
  std::unique_ptr<training::Workbench> workbench_;
  std::string name_ = "client";
  bool has_examples_ = false;
};

void ClientPreflight::run() {
  preflight_.check("configuration", [&] {
    client::check_configuration(config_);
    return config_.source.string() + ", a client's";
  });
  check_keys();
  check_coordinator_is_there();
  check_clock(config_, preflight_);
  check_writable(config_.output.dir, "output.dir", preflight_);
  workbench_ = check_model(config_, device_, preflight_);
  check_data();
  if (workbench_ == nullptr) return preflight_.skip("memory, rank, disk", "model");
  if (has_examples_) check_memory(config_.training, *workbench_, name_, "memory", preflight_);
  check_contract();
}

void ClientPreflight::check_keys() {
  preflight_.check("keys", [&] {
    identity_ =
        std::make_unique<crypto::Identity>(crypto::load_identity(config_.security.identity));
    name_ = identity_->public_part.name;
    return name_ + ", for this user alone";
  });
  preflight_.check("coordinator's key", [&] {
    coordinator_ = std::make_unique<crypto::PublicIdentity>(
        crypto::load_public_identity(config_.security.coordinator_key));
    return coordinator_->name;
  });
}

void ClientPreflight::check_coordinator_is_there() {
  const bool is_reachable = preflight_.check("address", [&] {
    const std::string& address = config_.security.coordinator;
    wire::check_reachable(address);
    const std::string problem = wire::connection_problem(address, kPatience);
    if (!problem.empty()) {
      throw core::Error(address + ": " + problem +
                        "; start the coordinator, and check the address and what lies between");
    }
    return address + " answers";
  });
  if (!is_reachable) return preflight_.skip("handshake", "address");
  if (!identity_ || !coordinator_) return preflight_.skip("handshake", "keys");
  handshake();
}

// Without a word: a message would take the place of the client, should it be running.
void ClientPreflight::handshake() {
  preflight_.check("handshake", [&] {
    wire::ZmqClient transport(config_.security.coordinator, *identity_, coordinator_->curve);
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (!transport.is_connected() && transport.num_refused() == 0 &&
           std::chrono::steady_clock::now() < until) {
      static_cast<void>(transport.receive(100ms));
    }
    if (transport.num_refused() > 0) {
      throw core::Error("it refuses the key of " + name_ +
                        "; have its operator put this client's .pub into the roster "
                        "(drystone provision --update)");
    }
    if (!transport.is_connected()) {
      const std::string& why = transport.last_failure();
      throw core::Error((why.empty() ? "no answer" : why) +
                        "; is security.coordinator_key the key of the coordinator at this "
                        "address?");
    }
    return "it has the coordinator's key, and takes this client's";
  });
}

void ClientPreflight::check_data() {
  const auto check = [&](const std::string& key, const std::filesystem::path& file,
                         const std::string& name, auto load) {
    if (file.empty()) return;
    client::Records records;
    const bool is_read = preflight_.check(key + " file", [&] {
      client::check_inputs(config_);
      if (!client::streams(config_)) records = load(config_);
      return file.string();
    });
    if (!is_read || workbench_ == nullptr) {
      return preflight_.skip(key, is_read ? "model" : key + " file");
    }
    if (client::streams(config_)) {
      return preflight_.add(
          {Verdict::Ok, key, "streamed: its texts are looked at when they are used", ""});
    }
    check_own(key, records, name);
  };
  check("data.train", config_.data.train, name_, client::load_train);
  check("data.test", config_.data.test, kTest, client::load_test);
}

void ClientPreflight::check_own(const std::string& key, const client::Records& records,
                                const std::string& name) {
  check_records(config_, key, records, *workbench_, preflight_);
  if (name == kTest) return;
  try {
    workbench_->add_examples(name, records);
    has_examples_ = true;
  } catch (const core::Error&) {
    has_examples_ = false;  // check_records has told why
  }
}

/// What the client would agree to: its rank, and the disk that versions may take.
void ClientPreflight::check_contract() {
  std::uint64_t bytes = 0;
  const bool fits = preflight_.check("rank", [&] {
    core::Config config = config_;
    config.data.labels = client::workbench_config(config_, "cpu").labels;
    const core::ListedClient own[] = {{name_, config.training, config.model.quantization}};
    const aggregation::AdapterLayout layout =
        config.federation.layout.empty() ? workbench_->layout({config.training}, {})
                                         : aggregation::read_layout(config.federation.layout);
    const bool trains = !config.data.train.empty();
    if (trains) client::check_ranks(config, own, layout);
    const client::Contract contract(client::terms_of(config, own[0], layout),
                                    config.output.dir / client::kContractFile);
    bytes = contract.max_storage();
    return trains ? std::to_string(config.training.rank) + " of method " + config.training.method
                  : "none: this client only evaluates";
  });
  if (!fits) return preflight_.skip("disk", "rank");
  check_disk(config_.output.dir, {.next_round = 0, .all = bytes},
             "free some, or bound it by client.max_storage", preflight_);
}

}  // namespace

void check_client(const core::Config& config, const std::string& device, Preflight& preflight) {
  ClientPreflight(config, device, preflight).run();
}

}  // namespace drystone::cli
