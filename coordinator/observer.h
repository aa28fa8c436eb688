#pragma once
// What happens in a federation, for whoever shows or records it.

#include <cstdint>
#include <string>

#include "coordinator/report.h"
#include "coordinator/round_machine.h"
#include "wire/messages.h"

namespace drystone::coordinator {

/// Every call comes on the coordinator's thread; override what is of interest.
class Observer {
 public:
  virtual ~Observer() = default;
  /// Which keys or files became which client, of a simulation that splits by them.
  virtual void on_dealt(const std::string& /*client*/, const std::string& /*keys*/,
                        std::int64_t /*num_keys*/, std::int64_t /*num_examples*/) {}
  virtual void on_joined(const std::string& /*client*/, const wire::Hello& /*hello*/) {}
  virtual void on_planned(const wire::RoundPlan& /*plan*/) {}
  /// Of a training or (from an evaluator) an evaluation.
  virtual void on_progress(const std::string& /*client*/, const wire::Progress& /*progress*/) {}
  virtual void on_accepted(const wire::UpdateManifest& /*manifest*/, double /*seconds*/) {}
  virtual void on_refused(const std::string& /*client*/, const core::Failure& /*failure*/) {}
  virtual void on_abandoned(std::uint64_t /*round*/, const std::string& /*reason*/) {}
  /// No quorum is there yet.
  virtual void on_waiting(const KeepWaiting& /*facts*/) {}
  virtual void on_missing(const NameMissing& /*facts*/) {}
  virtual void on_published(const RoundReport& /*round*/) {}
  /// Modules of a version that were added to the sum in global/.
  virtual void on_summed(std::uint64_t /*version*/, std::int64_t /*done*/, std::int64_t /*total*/) {
  }
  virtual void on_evaluated(std::uint64_t /*version*/, const Metrics& /*metrics*/) {}
};

}  // namespace drystone::coordinator
