#include "tests/chaos/client_machine.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace drystone::chaos {

namespace {

using namespace std::chrono_literals;
using Kind = Fault::Kind;

constexpr std::size_t kLargestBacklog = 64;

}  // namespace

ClientMachine::ClientMachine(const Parts& parts, int number)
    : parts_(parts),
      number_(number),
      name_(parts.federation.names.at(static_cast<std::size_t>(number - 1))),
      folder_("/chaos/" + name_),
      disk_(core::stream_seed({parts.schedule.seed, 0, name_, "disk"}),
            parts.schedule.loses_power()),
      random_({parts.schedule.seed, 0, name_, "machine"}) {
  Disks::instance().mount(name_, &disk_);
  // As a folder that was provisioned; others learn by their first version whose they are.
  if (parts.schedule.has_large_payloads || parts.schedule.seed % 2 == 0) {
    client::pin(pinned(parts.federation), folder_ + "/contract.json");
  }
  is_excused_ = std::ranges::any_of(parts.schedule.faults, [&](const Fault& fault) {
    const bool bends =
        fault.kind == Kind::Corrupt || fault.kind == Kind::Cut || fault.kind == Kind::BitRot;
    return bends && fault.machine == number;
  });
  has_rotted_ = std::ranges::any_of(parts.schedule.faults, [&](const Fault& fault) {
    return fault.kind == Kind::BitRot && fault.machine == number;
  });
}

void ClientMachine::heal() {
  is_healed_ = true;
  disk_.heal();
}

/// Whatever a machine does may be the last that it does.
template <typename Work>
void ClientMachine::work(Work&& what) {
  if (session_ == nullptr) return;
  try {
    what();
  } catch (const core::Error& error) {
    const bool has_failing_disk = disk_.num_errors() > errors_before_;
    if (!disk_.is_dead() && !has_failing_disk && !is_excused_) {
      throw Violation{name_ + " stops: " + error.what()};
    }
    if (!disk_.is_dead())
      return end_life(false, 1s + std::chrono::milliseconds(random_.below(5000)));
  }
  if (disk_.is_dead()) crash(disk_.lost_power());
}

void ClientMachine::start() {
  ++life_;
  errors_before_ = disk_.num_errors();
  try {
    client::Contract contract(terms_of(parts_.federation, number_), folder_ + "/contract.json");
    const client::SessionSettings settings{
        .coordinator_signing = identity_of(kCoordinator).public_part.signing,
        .hello = {.software = "chaos",
                  .base_sha256 = parts_.federation.config.model.sha256,
                  .device = "cpu",
                  .num_examples = 10,
                  .instance = life_},
        .checked_plans = parts_.checked_plans,
        .checked_versions = parts_.checked_versions};
    session_ =
        std::make_unique<client::Session>(settings, std::move(contract), identity_of(name_),
                                          pristine_state(parts_.schedule.has_large_payloads));
    storage_ = std::make_unique<client::Disk>(
        client::DiskSettings{.blobs = folder_ + "/blobs", .contract = folder_ + "/contract.json"},
        session_->contract());
  } catch (const core::Error& error) {
    if (!disk_.is_dead() && disk_.num_errors() == errors_before_) {
      throw Violation{name_ + " does not start: " + error.what()};
    }
    end_life(disk_.lost_power(), 2s);
    return;
  }
  if (disk_.is_dead()) return crash(disk_.lost_power());
  parts_.model.follows(name_, session_->contract());
  parts_.network.client_comes_up(number_);
}

void ClientMachine::crash(bool lost_power) {
  if (has_ended_ || (session_ == nullptr && !disk_.is_dead())) return;
  ++num_crashes_;
  end_life(lost_power, std::chrono::milliseconds(100 + random_.below(20'000)));
}

void ClientMachine::end_life(bool lost_power, core::Instant pause) {
  const bool dies = disk_.is_dead();
  disk_.die();
  if (session_) session_->cancel_job();
  storage_.reset();
  session_.reset();
  ++life_;
  disk_.revive(dies && lost_power);
  parts_.network.client_goes_down(number_);
  parts_.timeline.after(pause, [this, life = life_] {
    if (life == life_) start();
  });
}

void ClientMachine::on_connected() {
  work([&] {
    session_->on_connected();
    pump();
  });
}

void ClientMachine::on_message(core::Expected<wire::Message> message) {
  work([&] {
    if (message) session_->on_message(*std::move(message));
    pump();
  });
}

void ClientMachine::work_on_disk() {
  while (!disk_.is_dead()) {
    auto job = session_->take_disk_job();
    if (!job) return;
    session_->on_disk(storage_->run(*job));
  }
}

void ClientMachine::pump() {
  work_on_disk();
  if (session_->backlog() > kLargestBacklog) {
    throw Violation{name_ + ": " + std::to_string(session_->backlog()) + " messages wait"};
  }
  session_->take_verdicts();
  if (auto job = session_->take_job()) compute(std::move(*job));
  do {
    while (!disk_.is_dead() && parts_.network.is_connected(number_)) {
      auto message = session_->next_message();
      if (!message) break;
      const auto* offer = std::get_if<wire::Offer>(&*message);
      if (offer != nullptr && !has_rotted_) parts_.model.offers(name_, *offer);
      parts_.network.send(number_, *std::move(message));
    }
    if (!session_->is_busy()) break;
    work_on_disk();
  } while (!disk_.is_dead());
  if (!disk_.is_dead()) parts_.model.follows(name_, session_->contract());
  if (!session_->is_done() || disk_.is_dead()) return;
  const auto rounds = static_cast<std::uint64_t>(parts_.schedule.rounds);
  if (parts_.model.num_versions() != rounds + 1) {
    throw Violation{name_ + " ends, and the federation does not"};
  }
  has_ended_ = true;
  storage_.reset();
  session_.reset();
  ++life_;
  parts_.network.client_goes_down(number_);
}

void ClientMachine::compute(client::Job job) {
  auto takes = 500ms + std::chrono::milliseconds(random_.below(2500));
  bool fails = false;
  if (const auto* train = std::get_if<client::TrainJob>(&job)) {
    parts_.model.trains(name_, *train);
    for (const Fault& fault : parts_.schedule.faults) {
      if (fault.machine != number_ || fault.at != train->plan->round) continue;
      if (fault.kind == Kind::SlowTraining) takes += std::chrono::milliseconds(fault.amount);
      if (fault.kind == Kind::FailedTraining) fails = !is_healed_;
    }
  }
  // Moved to the heap: a stopped training ends soon, another when it is done.
  parts_.timeline.after(
      takes, [this, life = life_, job = std::move(job), fails] { finish(life, job, fails); });
}

void ClientMachine::finish(std::uint64_t life, const client::Job& job, bool fails) {
  if (life != life_) return;
  work([&] {
    if (const auto* train = std::get_if<client::TrainJob>(&job)) {
      if (fails) {
        session_->on_failed(job, "made to fail");
      } else if (train->stop.stop_requested()) {
        session_->on_trained(*train, std::nullopt);
      } else {
        const auto& result =
            made_result(parts_.schedule.has_large_payloads, train->plan->round, number_);
        session_->on_trained(
            *train, client::make_update(result, *train->plan, {.client = name_, .method = "lora"}));
      }
    } else {
      const auto& evaluate = std::get<client::EvaluateJob>(job);
      training::Evaluation made{.num_examples = 10, .metrics = {{"loss", 1.0}}};
      session_->on_evaluated(
          evaluate, evaluate.stop.stop_requested() ? std::nullopt : std::optional(std::move(made)));
    }
    pump();
  });
}

}  // namespace drystone::chaos
