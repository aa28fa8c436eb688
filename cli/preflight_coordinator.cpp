// drystone preflight of a deployed coordinator.

#include <memory>
#include <set>

#include "cli/preflight.h"
#include "cli/preflight_shared.h"
#include "coordinator/configuration_check.h"
#include "coordinator/earlier_life.h"
#include "coordinator/machine_settings.h"
#include "coordinator/state_lock.h"
#include "coordinator/store.h"
#include "core/descriptors.h"
#include "core/error.h"
#include "core/text.h"
#include "wire/durable_file.h"
#include "wire/zmq_transport.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

class CoordinatorPreflight {
 public:
  CoordinatorPreflight(const core::Config& config, Preflight& preflight)
      : config_(config), preflight_(preflight), state_(config.output.dir / "state") {}
  void run();

 private:
  void check_parties();
  void check_address();
  void check_what_is_published();
  void check_state();
  std::uint64_t rounds_left() const;

  const core::Config& config_;
  Preflight& preflight_;
  fs::path state_;
  std::unique_ptr<crypto::Identity> identity_;
  std::unique_ptr<crypto::Roster> roster_;
  std::unique_ptr<aggregation::AdapterLayout> layout_;
};

void CoordinatorPreflight::run() {
  preflight_.check("configuration", [&] {
    coordinator::check_configuration(config_);
    return config_.source.string() + ", the coordinator's";
  });
  check_parties();
  check_address();
  check_clock(config_, preflight_);
  check_writable(config_.output.dir, "output.dir", preflight_);
  check_what_is_published();
  check_state();
  if (!roster_ || !layout_) return preflight_.skip("disk", roster_ ? "layout" : "roster");
  std::vector<std::int64_t> ranks;
  for (const auto& [name, entry] : roster_->clients) {
    if (entry.role == crypto::Role::Train && entry.max_rank > 0) ranks.push_back(entry.max_rank);
  }
  check_disk(state_, disk_need(config_, *layout_, std::move(ranks), rounds_left()),
             config_.output.keep_updates
                 ? "free some, choose another output.dir, or set output.keep_updates = false"
                 : "free some, or choose another output.dir",
             preflight_);
}

void CoordinatorPreflight::check_parties() {
  preflight_.check("keys", [&] {
    identity_ =
        std::make_unique<crypto::Identity>(crypto::load_identity(config_.security.identity));
    return identity_->public_part.name + ", for this user alone";
  });
  preflight_.check("roster", [&] {
    roster_ = std::make_unique<crypto::Roster>(crypto::load_roster(config_.security.allow));
    const auto settings = coordinator::machine_settings(
        config_, *roster_, std::make_shared<coordinator::ClientSettings>(config_, *roster_));
    return std::to_string(settings.trainers.size()) + " train, " +
           std::to_string(settings.evaluators.size()) + " evaluate";
  });
  if (!roster_) return;
  preflight_.check("open files", [&] {
    constexpr std::uint64_t kOthers = 100;
    core::raise_descriptor_limit();
    const std::uint64_t needed = 2 * roster_->clients.size() + kOthers;  // each may reconnect
    const std::string text = std::to_string(core::descriptor_limit()) + " allowed, " +
                             std::to_string(needed) + " may be needed";
    if (core::descriptor_limit() < needed) throw core::Error(text + "; raise `ulimit -n`");
    return text;
  });
}

void CoordinatorPreflight::check_address() {
  if (coordinator::is_in_use(state_)) {
    return preflight_.add({Verdict::Ok, "address", "in use by the coordinator that runs", ""});
  }
  if (!identity_ || !roster_) return preflight_.skip("address", identity_ ? "roster" : "keys");
  preflight_.check("address", [&] {
    const wire::ZmqServer server(config_.security.coordinator, *identity_, *roster_);
    return server.address() + " can be bound";
  });
}

void CoordinatorPreflight::check_what_is_published() {
  preflight_.check("layout", [&] {
    layout_ = std::make_unique<aggregation::AdapterLayout>(
        aggregation::read_layout(config_.federation.layout));
    return std::to_string(layout_->modules.size()) + " modules, " +
           std::to_string(layout_->dense.size()) + " dense parts";
  });
  if (fs::exists(state_ / "state.sqlite")) return;  // version 0 is there
  preflight_.check("initial", [&] {
    const wire::File file = wire::File::open_for_reading(config_.federation.initial);
    return config_.federation.initial.string() + ", " + core::format_bytes(file.size());
  });
}

void CoordinatorPreflight::check_state() {
  preflight_.check("state", [&] {
    coordinator::refuse_earlier_run(config_.output.dir, state_);
    core::Config config = config_;
    coordinator::keep_begun_rounds(config, config_.output.dir, state_);
    coordinator::refuse_other_configuration(config_.output.dir, state_, config);
    if (!fs::exists(state_ / "state.sqlite")) return std::string("none yet");
    const coordinator::Store store(state_);
    if (const auto found = store.inconsistency()) {
      throw core::IoError(state_.string() + ": is damaged (" + *found + ")" +
                          coordinator::kLostStateRemedy);
    }
    if (identity_ && store.coordinator() != crypto::PublicKey{} &&
        store.coordinator() != identity_->public_part.signing) {
      throw core::ConfigError(state_.string() +
                              ": its versions are signed with another key; restore that key "
                              "(security.identity) or choose another folder");
    }
    return "version " + std::to_string(store.load().version) + " of " +
           std::to_string(config_.federation.rounds) + " is there";
  });
}

std::uint64_t CoordinatorPreflight::rounds_left() const {
  const auto rounds = static_cast<std::uint64_t>(config_.federation.rounds);
  try {
    const std::uint64_t version = coordinator::Store(state_).load().version;
    return rounds > version ? rounds - version : 0;
  } catch (const core::Error&) {
    return rounds;
  }
}

}  // namespace

void check_coordinator(const core::Config& config, Preflight& preflight) {
  CoordinatorPreflight(config, preflight).run();
}

}  // namespace drystone::cli
