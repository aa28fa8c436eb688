#pragma once
// What a federation must come to, whatever disturbed it: written from the rules, one step after the
// other, beside the coordinator's own code.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "client/session.h"
#include "coordinator/store.h"
#include "tests/chaos/federation.h"

namespace drystone::chaos {

/// A rule that was broken.
struct Violation {
  std::string what;
};

class SerialModel {
 public:
  SerialModel(const Schedule& schedule, const Federation& federation);

  // ---- what the coordinator does; each throws Violation
  void planned(const wire::RoundPlan& plan);
  void abandoned(std::uint64_t round);
  /// A client hears that its update of this round counts.
  void told_accepted(const std::string& client, std::uint64_t round);
  /// Bit rot in this payload: an open round may forget it.
  void forgive(const core::Digest& payload) { rotten_.insert(payload); }
  /// Looks at what is stored that was not seen before.
  void look(coordinator::Store& store);
  /// The coordinator died, and its disk is as it left it.
  void before_crash(coordinator::Store& store);
  /// It is there again.
  void after_restart(coordinator::Store& store);

  // ---- what clients do
  void trains(const std::string& client, const client::TrainJob& job);
  /// It tells the coordinator of its update: from now on it has no other for this round.
  void offers(const std::string& client, const wire::Offer& offer);
  void follows(const std::string& client, const client::Contract& contract) const;

  /// The federation is over.
  void ended(coordinator::Store& store);
  std::uint64_t num_versions() const { return versions_.size(); }
  const core::Digest& head() const { return versions_.back().head; }

 private:
  struct Version {
    core::Digest head{};
    core::Digest payload{};
    std::set<std::string> accepted;
    double mark = 0.0;  ///< a number of the model's head, to tell states apart
  };
  struct Open {
    std::uint64_t round = 0;
    std::uint64_t attempt = 0;
    std::set<std::string> told;
  };

  void check(coordinator::Store& store, const wire::VersionManifest& manifest);
  void check_initial(const wire::VersionManifest& manifest) const;
  /// @param before  the head that the round began from  @return whose updates the version is of
  std::set<std::string> check_round(coordinator::Store& store,
                                    const wire::VersionManifest& manifest,
                                    const core::Digest& before);
  /// @param who  begins what is told
  void check_update(const coordinator::StoredUpdate& stored, const wire::RoundPlan& plan,
                    const std::string& who) const;
  int number_of(const std::string& client) const;
  std::uint64_t quorum(std::uint64_t asked) const;
  core::Digest expected_payload(const std::vector<coordinator::StoredUpdate>& updates);
  void check_sum(const tensors::FactorSet& version,
                 const std::vector<coordinator::StoredUpdate>& updates) const;

  const Schedule& schedule_;
  const Federation& federation_;
  std::vector<Version> versions_;
  std::optional<Open> open_;
  std::set<core::Digest> rotten_;
  std::set<std::pair<std::string, std::uint64_t>> offered_;  ///< client, base version
  std::string history_;                                      ///< who was accepted in each round
};

}  // namespace drystone::chaos
