#pragma once
// The coordinator: carries out what the round machine asks, over any transport.

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/layout.h"
#include "coordinator/observer.h"
#include "coordinator/store.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/executor.h"
#include "crypto/roster.h"
#include "wire/transport.h"

namespace drystone::coordinator {

struct CoordinatorSetup {
  core::Config config;
  crypto::Roster roster;
  aggregation::AdapterLayout layout;  ///< what an update may contain
  /// Factor set of version 0: the head, and the factors of model.adapter. Those are added to the
  /// base; rules that average and "laplace-lora" publish them as what adapters continue from.
  std::filesystem::path initial;
  std::filesystem::path state_dir;
  CommitUnit commits = CommitUnit::Step;
  /// Where `roster` was read from: told to the log when it is changed by hand. Given, signed roster
  /// changes that `drystone keys` leaves in the state folder are taken up.
  std::filesystem::path roster_file = {};
  /// Completes a round's row before it is published; may be empty.
  std::function<void(RoundReport&)> describe = {};
};

/// A thread of its own, which wakes `transport` when a task is done.
std::unique_ptr<core::Executor> background_thread(wire::ServerTransport& transport);

/// One federation. Use from one thread: construct (which resumes when state_dir holds state), then
/// step() until is_over().
class Coordinator {
 public:
  /// @param identity, transport, clock, observers  outlive the coordinator
  /// @param executor  payload checks and aggregation: what would stall the messages
  /// @throws core::ConfigError, core::IoError  see Store; a layout or initial file that does not
  /// fit
  Coordinator(CoordinatorSetup setup, const crypto::Identity& identity,
              wire::ServerTransport& transport, const core::Clock& clock,
              std::unique_ptr<core::Executor> executor, std::vector<Observer*> observers = {});
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  /// Handles at most one message after waiting at most `max_wait`, and all timers and results.
  /// @return whether anything happened
  bool step(std::chrono::milliseconds max_wait);

  bool is_over() const;
  /// Whether a check or an aggregation is under way in the background.
  bool is_busy() const;
  /// Why the federation failed; std::nullopt while it runs or after it finished.
  std::optional<std::string> failure() const;
  /// What it is at, and where each client stands: at `now()` of its clock.
  Standing standing() const;
  /// The newest version that may stand in global/.
  std::uint64_t sound_version() const;
  /// Tells every client that comes from now on that the federation is over; step() still answers.
  RunReport report() const;
  Store& store();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drystone::coordinator
