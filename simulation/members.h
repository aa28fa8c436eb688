#pragma once
// The clients of a simulation, who are there as long as they are asked: a million that rest cost
// their examples and nothing else.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "aggregation/layout.h"
#include "client/contract.h"
#include "client/training_shards.h"
#include "client/version_check.h"
#include "coordinator/store.h"
#include "core/client_list.h"
#include "core/config.h"
#include "core/devices.h"
#include "crypto/identity.h"
#include "crypto/roster.h"
#include "simulation/schedule.h"
#include "simulation/virtual_client.h"
#include "simulation/virtual_time.h"
#include "tensors/factors.h"
#include "wire/inproc_transport.h"

namespace drystone::simulation {

struct MembersSetup {
  core::Config& config;  ///< model.sha256 and data.labels are filled in
  std::filesystem::path state_dir;
  std::string device;
  SharedVersions::FindPayload find_payload;
  crypto::PublicKey coordinator_signing{};
  client::HearKeyOwner hear_key_owner = {};
  std::size_t num_cores = 0;  ///< for trainings, where simulation.workers leaves it open; 0: all
  bool evaluates = true;
};

/// One thread. Clients that train are made when they are asked and go when they are dismissed; the
/// evaluator stays.
class Members {
 public:
  /// Loads model and data. @throws core::ConfigError, core::IoError
  Members(MembersSetup setup, wire::InprocHub& hub);

  const aggregation::AdapterLayout& layout() const { return layout_; }
  const tensors::FactorSet& first_version() const { return first_version_; }
  /// Every trainer has one key pair: a simulation's signatures keep nobody apart.
  crypto::Roster roster() const;
  /// SHA-256 (hex) of data.train, encoded and dealt out.
  std::string data_sha256() const { return core::to_hex(shards_->digest()); }
  /// "cpu", "cuda:0".
  std::string compute_device() const;
  /// As many trainings at a time as there may be: their results do not depend on it.
  std::size_t num_workers() const;

  /// The evaluator, if there are test examples.
  VirtualClient* evaluator() { return evaluator_.get(); }
  /// Checks what was published up to this version and folds it, once for all. @throws core::Error
  void follow(std::uint64_t version, coordinator::Store& store);
  /// The same of the next version alone.
  void follow(const wire::Signed& entry);
  std::uint64_t num_followed() const { return history_->num_followed(); }
  /// How a round's clients train. @param names  sorted
  std::vector<Slot> schedule(const std::vector<std::string>& names, std::size_t num_workers) const;
  /// Makes a client that trains from the version that was followed last; what a deployed client
  /// would have fetched is counted.
  VirtualClient& ask(const std::string& name);
  std::size_t num_asked() const { return asked_.size(); }
  /// Lets one that was asked go, and whoever is left. Nobody of them may compute.
  void dismiss(const std::string& name);
  void dismiss_all();
  /// nullptr: not there.
  VirtualClient* find(const std::string& name);
  void cancel_jobs();

  bool simulates_time() const { return !devices_.empty(); }
  /// With simulates_time(): the machine that a client stands for, and what the version that was
  /// followed last gives it to do.
  const core::Device& device(const std::string& name) const;
  Work work(const std::string& name) const;
  /// Its update of this round was taken: it holds every version before.
  void note_fetched(const std::string& name, std::uint64_t round);

 private:
  void load_data(const client::HearKeyOwner& hear);
  void make_first_version();
  void make_terms();
  void make_evaluator();
  Bench& bench(const std::string& quantization);
  void class_kinds();
  void load_devices();
  void check_memory(std::size_t kind, const core::Device& device) const;
  Grouping grouping(std::size_t num_workers) const;
  double tokens_of_row() const;
  std::int64_t wanted_workers() const;
  std::unique_ptr<VirtualClient> make(std::size_t place);
  client::SessionSettings session_settings(const Bench& bench, std::uint64_t num_examples) const;
  client::JobSettings job_settings(const core::ListedClient& listed) const;

  MembersSetup setup_;
  core::Config& config_;
  wire::InprocHub& hub_;
  core::ClientList list_;
  crypto::Identity identity_;  ///< every trainer's
  crypto::Identity evaluator_identity_;
  std::map<std::string, std::unique_ptr<Bench>> benches_;  ///< by quantization
  std::unique_ptr<client::TrainingShards> shards_;
  tensors::FactorSet first_version_;
  aggregation::AdapterLayout layout_;
  client::Pinned pinned_;                                      ///< every client's
  std::vector<client::ContractTerms> terms_;                   ///< by kind; of no client yet
  std::vector<core::TrainingConfig> trainings_;                ///< likewise
  std::vector<int> group_classes_;                             ///< likewise; see Candidate
  std::unique_ptr<client::Contract> history_;                  ///< what has been followed, for all
  std::vector<std::uint64_t> version_bytes_ = {0};             ///< of all versions before the place
  std::unordered_map<std::size_t, std::size_t> num_followed_;  ///< by client; absent: none
  std::vector<core::Device> devices_;                          ///< of simulation.profiles
  std::unordered_map<std::size_t, std::size_t> num_fetched_;   ///< in simulated time; likewise
  std::shared_ptr<client::CheckedPlans> checked_plans_ = std::make_shared<client::CheckedPlans>();
  std::shared_ptr<client::CheckedVersions> checked_versions_ =
      std::make_shared<client::CheckedVersions>();
  std::map<std::string, std::unique_ptr<VirtualClient>> asked_;  ///< by name
  std::unique_ptr<VirtualClient> evaluator_;
};

}  // namespace drystone::simulation
