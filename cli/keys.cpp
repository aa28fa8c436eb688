#include "cli/keys.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "adapters/registry.h"
#include "coordinator/change_inbox.h"
#include "coordinator/federation_id.h"
#include "coordinator/membership.h"
#include "coordinator/store.h"
#include "core/client_list.h"
#include "core/config.h"
#include "core/error.h"
#include "core/text.h"
#include "crypto/hash.h"
#include "crypto/identity.h"
#include "crypto/key_request.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

constexpr auto kWaitsFor = 5s;  // for a coordinator that runs
constexpr const char* kRenewed = "renewed";

std::string shown(const fs::path& path) { return core::visible(path.string()); }

// ---- the coordinator's side --------------------------------------------------------------------

/// A federation's membership as its state and the changes that wait to be taken up have it.
class Office {
 public:
  explicit Office(const OperatorOptions& options);

  const core::Config& config() const { return config_; }
  const coordinator::Membership& membership() const { return membership_; }
  const std::vector<std::string>& history() const { return history_; }
  std::string submit(const wire::RosterChange& change);

 private:
  void resume();
  bool is_taken(std::uint64_t number) const;

  core::Config config_;
  fs::path state_;
  crypto::Identity identity_;
  coordinator::ChangeInbox inbox_;
  coordinator::Membership membership_;
  std::vector<std::string> history_;
};

core::Config coordinator_config(const fs::path& file) {
  core::Config config = core::load_config(file);
  if (!config.security.allow.empty() && !config.security.identity.empty()) return config;
  throw core::config_error(config, "security.allow",
                           "missing: this is not the coordinator's configuration; name "
                           "coordinator.toml by --config");
}

Office::Office(const OperatorOptions& options)
    : config_(coordinator_config(options.config)),
      state_(options.state.empty() ? config_.output.dir / "state" : options.state),
      identity_(crypto::load_identity(config_.security.identity)),
      inbox_(state_),
      membership_(crypto::load_roster(config_.security.allow), coordinator::federation_id(config_),
                  identity_.public_part.signing) {
  resume();
}

void Office::resume() {
  if (!fs::exists(state_ / "state.sqlite")) {
    throw core::ConfigError(state_.string() +
                            ": no coordinator's state there; start drystone-coordinator once "
                            "(before that, `drystone provision --update` adds clients), or name "
                            "its folder by --state");
  }
  const coordinator::Store store(state_);
  if (store.federation() != coordinator::federation_id(config_) ||
      store.coordinator() != identity_.public_part.signing) {
    throw core::ConfigError(state_.string() +
                            ": is the state of another configuration or coordinator than " +
                            config_.source.string());
  }
  const auto changes = store.roster_changes();
  membership_.resume(changes);
  for (const wire::Signed& change : changes) {
    history_.push_back(coordinator::to_text(*wire::decode_roster_change(change.bytes)) + ", " +
                       core::to_hex(crypto::sha256(change.bytes)));
  }
  if (!membership_.is_as_signed()) {
    throw core::ConfigError(config_.security.allow.string() + ": was changed by hand since " +
                            history_.back() + "; start the coordinator again, which takes that up");
  }
  while (inbox_.contains(membership_.mark().change + 1)) {
    const std::uint64_t number = membership_.mark().change + 1;
    const auto waiting = inbox_.read(number);
    const auto change =
        waiting ? membership_.check(*waiting) : tl::make_unexpected(waiting.error());
    if (!change) {
      throw core::ConfigError(inbox_.file(number).string() + ": " + change.error().detail +
                              "; remove it, or start the coordinator, which sets it aside");
    }
    membership_.apply(*change, waiting->bytes);
    history_.push_back(coordinator::to_text(*change) + ", waits for the coordinator");
  }
}

bool Office::is_taken(std::uint64_t number) const {
  return coordinator::Store(state_).roster_changes().size() >= number;
}

std::string Office::submit(const wire::RosterChange& change) {
  const std::string text = coordinator::to_text(change);
  const fs::path refused = inbox_.refused_file(change.number);
  std::error_code ignored;  // of an earlier attempt
  fs::remove(refused, ignored);
  if (!inbox_.put(change.number, coordinator::sign(identity_, change))) {
    throw core::Error(text + ": another change was made at the same time; try again");
  }
  const auto until = std::chrono::steady_clock::now() + kWaitsFor;
  while (std::chrono::steady_clock::now() < until) {
    if (is_taken(change.number)) return text + "; in force";
    if (fs::exists(refused)) {
      throw core::Error(text +
                        ": the coordinator refused it, its log says why; nothing has "
                        "changed");
    }
    std::this_thread::sleep_for(100ms);
  }
  return text + "; counts as soon as the coordinator runs (it waits in " +
         shown(inbox_.file(change.number)) + ")";
}

template <typename T>
T expect(core::Expected<T> value) {
  if (!value) throw core::ConfigError(value.error().detail);
  return *std::move(value);
}

/// What the configuration lists for the client; of one that it does not list the largest of all.
std::int64_t usual_rank(const core::Config& config, const std::string& name) {
  const core::ClientList list(config);
  if (const auto number = list.find(name)) {
    return adapters::export_rank(adapters::spec_of(list[*number].training));
  }
  std::int64_t largest = 0;
  for (const core::ListedClient& listed : list.first_of_each_kind()) {
    largest = std::max(largest, adapters::export_rank(adapters::spec_of(listed.training)));
  }
  return largest;
}

coordinator::Grant grant_for(const Office& office, const std::string& name,
                             const GrantOptions& given) {
  const auto& clients = office.membership().roster().clients;
  const auto known = clients.find(name);
  coordinator::Grant grant;
  if (known != clients.end()) {
    const crypto::RosterEntry& entry = known->second;
    grant = {entry.role, entry.max_rank, entry.max_examples, entry.has_own_settings};
  }
  if (!given.role.empty()) {
    grant.role = given.role == "train" ? crypto::Role::Train : crypto::Role::Evaluate;
  }
  if (!given.settings.empty()) grant.has_own_settings = given.settings == "own";
  if (given.max_examples) grant.max_examples = *given.max_examples;
  if (grant.role == crypto::Role::Evaluate) {
    grant.max_rank = 0;
  } else if (given.max_rank) {
    grant.max_rank = *given.max_rank;
  } else if (known == clients.end()) {
    grant.max_rank = usual_rank(office.config(), name);
  }
  return grant;
}

// ---- the client's side -------------------------------------------------------------------------

/// Where a client's keys lie, without suffix.
fs::path own_key(const fs::path& config_file) {
  const core::Config config = core::load_config(config_file);
  if (config.security.identity.empty() || !config.security.allow.empty()) {
    throw core::config_error(config, "security.identity",
                             "this is not a client's configuration; name client.toml by --config");
  }
  fs::path key = config.security.identity;
  if (key.extension() == ".key" || key.extension() == ".pub") key.replace_extension();
  return key;
}

fs::path with(const fs::path& stem, const char* suffix) { return fs::path(stem) += suffix; }

std::string told(const fs::path& key, const fs::path& request,
                 const crypto::PublicIdentity& identity) {
  return shown(with(key, ".key")) + "  keep it secret, it never leaves this machine\n" +
         shown(request) + "  send it to the coordinator's operator (drystone keys approve)\n" +
         "fingerprint " + crypto::fingerprint(identity) + "  compare it by another way\n";
}

}  // namespace

std::string request_key(const std::string& name, const fs::path& out) {
  const crypto::Identity identity = crypto::generate_identity(name);
  crypto::save_identity(identity, out);
  const fs::path request = out / (name + ".request");
  crypto::save_request(identity, nullptr, request);
  return told(out / name, request, identity.public_part);
}

std::string renew_key(const fs::path& config) {
  const fs::path key = own_key(config);
  const crypto::Identity present = crypto::load_identity(key);
  const std::string& name = present.public_part.name;
  const fs::path folder = key.parent_path() / kRenewed;
  const fs::path request = folder / (name + ".request");
  // A second call tells of the same key: the first request may be approved already.
  if (!fs::exists(with(folder / name, ".key"))) {
    crypto::save_identity(crypto::generate_identity(name), folder);
  }
  const crypto::Identity renewed = crypto::load_identity(folder / name);
  crypto::save_request(renewed, &present, request);
  return told(folder / name, request, renewed.public_part) +
         "The present key counts until then. Afterwards: drystone keys renew --use\n";
}

std::string use_renewed_key(const fs::path& config) {
  const fs::path key = own_key(config);
  const fs::path renewed = key.parent_path() / kRenewed / key.filename();
  if (!fs::exists(with(renewed, ".key"))) {
    throw core::ConfigError(with(renewed, ".key").string() +
                            ": no renewed key; `drystone keys renew` makes one");
  }
  if (fs::exists(with(renewed, ".pub"))) {  // the first step; without it: go on
    crypto::load_identity(renewed);         // readable, private, a pair
    fs::copy_file(with(key, ".key"), with(key, ".key.replaced"),
                  fs::copy_options::overwrite_existing);
    wire::rename_durably(with(renewed, ".pub"), with(key, ".pub"));
  }
  wire::rename_durably(with(renewed, ".key"), with(key, ".key"));
  return shown(with(key, ".key")) + " is the renewed key; start drystone-client again\n";
}

std::string approve(const OperatorOptions& options, const fs::path& request,
                    const GrantOptions& given) {
  const crypto::KeyRequest asked = crypto::load_request(request);
  Office office(options);
  const coordinator::Grant grant = grant_for(office, asked.identity.name, given);
  const wire::RosterChange change = expect(office.membership().approve(asked, grant));
  std::string text =
      "fingerprint " + crypto::fingerprint(asked.identity) + "\n" + office.submit(change) + "\n";
  if (grant.role == crypto::Role::Train && grant.max_examples == 0) {
    text += "It may count for any number of examples; --max-examples sets a cap.\n";
  }
  return text;
}

std::string revoke(const OperatorOptions& options, const std::string& client, bool below_quorum) {
  Office office(options);
  const wire::RosterChange change = expect(office.membership().revoke(client));
  coordinator::Membership after = office.membership();
  after.apply(change, wire::encode(change));
  const auto left = static_cast<std::int64_t>(coordinator::num_trainers(after.roster()));
  const std::int64_t needed = std::max<std::int64_t>(1, office.config().federation.quorum);
  if (left < needed && !below_quorum) {
    throw core::ConfigError(client + ": without it " + std::to_string(left) +
                            " clients may train, and a round needs " + std::to_string(needed) +
                            " (federation.quorum): approve another one first, or give "
                            "--below-quorum, and the federation waits until there are enough");
  }
  return office.submit(change) + "\n";
}

std::string list(const OperatorOptions& options) {
  const Office office(options);
  std::string text;
  for (const auto& [name, entry] : office.membership().roster().clients) {
    text += name + "  " + (entry.role == crypto::Role::Train ? "train" : "evaluate") +
            "  max_rank " + std::to_string(entry.max_rank) + "  max_examples " +
            std::to_string(entry.max_examples) + "  fingerprint " +
            crypto::fingerprint(entry.identity) + "\n";
  }
  for (const std::string& line : office.history()) text += line + "\n";
  return text;
}

}  // namespace drystone::cli
