#pragma once
// Keeps the snapshot of a running coordinator in its state folder.

#include <filesystem>
#include <map>
#include <string>

#include "coordinator/coordinator.h"
#include "coordinator/observer.h"
#include "coordinator/status.h"
#include "core/clock.h"

namespace drystone::coordinator {

/// Looks a few times a second what has changed and writes it in one rename: readers see the old or
/// the new snapshot, never a part. Nothing is synced; after a power cut the database says what was.
/// A file that cannot be written is a warning, once. Use from the coordinator's thread.
class StatusKeeper final : public Observer {
 public:
  /// @param state  the coordinator's state folder  @param clock  the coordinator's; outlives this
  StatusKeeper(const core::Config& config, const std::filesystem::path& state,
               const core::Clock& clock);

  void on_joined(const std::string& client, const wire::Hello& hello) override;
  void on_planned(const wire::RoundPlan& plan) override;
  void on_progress(const std::string& client, const wire::Progress& progress) override;
  void on_accepted(const wire::UpdateManifest& manifest, double seconds) override;
  void on_refused(const std::string& client, const core::Failure& failure) override;
  void on_abandoned(std::uint64_t round, const std::string& reason) override;
  void on_published(const RoundReport& round) override;

  /// Writes if it is time and something changed, or nothing was written for a while.
  void follow(const Coordinator& coordinator);
  /// Writes now: what stands when the program ends.
  void finish(const Coordinator& coordinator);

  /// The snapshot of this moment.
  Status status(const Coordinator& coordinator);

 private:
  /// What the machine does not know of a client.
  struct Client {
    core::Instant heard{};
    core::Instant since{};  ///< of `state`
    std::string state;
    wire::Progress progress;  ///< in the open round, or of an evaluation; num_steps 0: none
    std::string device;
    std::uint64_t num_examples = 0;
    std::string reason;
  };

  ClientStatus status_of(const ClientStanding& standing);
  void follow_wall_clock();
  UnixTime wall(core::Instant instant) const;
  void write(const Status& status);

  std::filesystem::path file_;
  const core::Clock& clock_;
  std::string name_;
  std::string federation_;
  std::map<std::string, Client> clients_;
  std::string reason_;  ///< of the last abandonment, until a version is published
  std::optional<Status> told_;
  core::Instant wall_offset_{};  ///< from the clock to seconds since 1970
  core::Instant due_{};
  core::Instant wrote_{};
  bool fails_ = false;
};

}  // namespace drystone::coordinator
