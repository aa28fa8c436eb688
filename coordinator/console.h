#pragma once
// Shows a federation to a person: live progress, one line an event, a table at the end.

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "coordinator/observer.h"
#include "core/clock.h"
#include "core/progress.h"

namespace drystone::coordinator {

class Console final : public Observer {
 public:
  /// @param rounds  of the federation, to tell how long they will take
  Console(core::ProgressBoard& board, std::int64_t rounds);
  ~Console() override;

  void on_joined(const std::string& client, const wire::Hello& hello) override;
  void on_planned(const wire::RoundPlan& plan) override;
  void on_progress(const std::string& client, const wire::Progress& progress) override;
  void on_accepted(const wire::UpdateManifest& manifest, double seconds) override;
  void on_refused(const std::string& client, const core::Failure& failure) override;
  void on_abandoned(std::uint64_t round, const std::string& reason) override;
  void on_waiting(const KeepWaiting& facts) override;
  void on_missing(const NameMissing& facts) override;
  void on_published(const RoundReport& round) override;
  void on_summed(std::uint64_t version, std::int64_t done, std::int64_t total) override;
  void on_evaluated(std::uint64_t version, const Metrics& metrics) override;

 private:
  void show_round();
  std::string time_left(const RoundReport& round) const;
  void tell_further_joined();
  void finish_bar(const std::string& client);

  struct Progress {
    core::ProgressBoard::Bar bar;
    core::TrainingNote note;
  };

  /// A round that asks many has one bar for all of them.
  struct LargeRound {
    core::ProgressBoard::Bar bar;
    core::Instant began{};
    std::int64_t asked = 0;
    std::optional<core::Instant> shown = {};
    std::int64_t accepted = 0;
    std::uint64_t tokens = 0;
  };

  core::ProgressBoard& board_;
  const std::int64_t rounds_;
  core::SystemClock clock_;
  std::map<std::string, Progress> bars_;  ///< by client
  std::optional<LargeRound> large_;       ///< the open one
  std::size_t num_joined_ = 0;            ///< since the last round began or ended
  std::int64_t further_examples_ = 0;     ///< of those that had no line
  std::optional<core::Instant> sum_began_;
  std::optional<core::ProgressBoard::Bar> sum_bar_;  ///< of a sum that takes its time
};

/// The table that ends a run: one line before any round and one after each.
std::string results_table(const RunReport& report);

}  // namespace drystone::coordinator
