#pragma once
// What a client lets a coordinator ask of it, whoever signs: one federation, its rounds in order,
// one update a version, in the terms of its own configuration. What was followed and answered
// survives restarts, so that a restart is no second chance for either side.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/layout.h"
#include "core/bytes.h"
#include "core/client_list.h"
#include "core/config.h"
#include "core/expected.h"
#include "wire/messages.h"

namespace drystone::client {

/// The terms, from the client's own configuration and data.
struct ContractTerms {
  std::string client;
  std::uint64_t rounds = 0;
  std::uint64_t seed = 0;
  std::string start;                                ///< RoundPlan::start of its rule
  core::PublishMode mode = core::PublishMode::Add;  ///< of the versions after 0
  std::string settings;                             ///< core::settings_text of its own
  bool trains = false;
  bool evaluates = false;
  std::int64_t num_examples = 0;
  std::int64_t num_steps = 0;  ///< of one training
  std::int64_t min_examples = 1;
  std::int64_t min_steps = 1;
  /// What a version may hold; never null.
  std::shared_ptr<const aggregation::AdapterLayout> layout =
      std::make_shared<aggregation::AdapterLayout>();
  std::int64_t export_rank = 1;  ///< largest of a module in the client's own update
  std::int64_t max_storage = 0;  ///< bytes; 0: what an honest federation can need
};

/// With client.reveal = "minimal" a client does not train on fewer examples or in fewer steps: an
/// update of a few texts can be read.
inline constexpr std::int64_t kMinExamples = 16;
inline constexpr std::int64_t kMinSteps = 2;

/// The terms that a configuration gives one of its clients.
/// @param config  with data.labels filled in
ContractTerms terms_of(const core::Config& config, const core::ListedClient& listed,
                       aggregation::AdapterLayout layout);

/// What is agreed on before the first version: kept in the contract's file.
struct Pinned {
  std::string federation;     ///< hex id; empty: the first one whose version is followed
  std::int64_t max_rank = 0;  ///< of a module in a version; see aggregation::version_rank
};

/// Pinned::max_rank of a federation: the sum of all ranks where nobody compacts, otherwise 0.
/// @param config  of the federation, with its [[clients]]
std::int64_t version_rank(const core::Config& config);

inline constexpr const char* kContractFile = "contract.json";  ///< in the client's output folder

/// A coordinator whose signed words do not fit together is broken or hostile: stop, do not train.
[[noreturn]] void distrust(const std::string& what);

/// Survives a power cut after return. @param text  Contract::file_text() @throws core::IoError
void write_contract(const std::filesystem::path& file, const std::string& text);

/// Writes the file of a contract under which nothing was done yet, unless one of this federation is
/// there. @throws core::Error
void pin(const Pinned& pinned, const std::filesystem::path& file);

/// An update that was made, as it was signed but for the attempt.
struct Answer {
  wire::UpdateManifest manifest;
  core::Digest base_head{};  ///< of the version that it was trained from
  double seconds = 0.0;
};

/// Its owner writes file_text() to the file before anybody hears of a change. One thread at a time.
class Contract {
 public:
  /// @param heads  of the versions from 0 on that it has followed
  Contract(ContractTerms terms, Pinned pinned, std::vector<core::Digest> heads = {});
  /// @param file  where an earlier life wrote it; may be missing
  /// @throws core::Error  unreadable or damaged
  Contract(ContractTerms terms, const std::filesystem::path& file);

  const ContractTerms& terms() const { return terms_; }
  /// Empty: not known yet.
  const std::string& federation() const { return pinned_.federation; }

  /// What the coordinator says it runs: the federation that is meant from now on, if none is
  /// pinned. Refuses with PlanMismatch another one than the pinned one.
  core::Expected<void> meet(const std::string& federation);
  /// Whether this training may be done. Refuses with PlanRefused or SettingsDiffer.
  /// @param plan      as signed by the coordinator
  /// @param settings  Task::settings
  core::Expected<void> check(const wire::RoundPlan& plan, const std::string& settings) const;
  /// Whether version `version` may be evaluated. Refuses with PlanRefused.
  core::Expected<void> check_evaluation(std::uint64_t version) const;
  /// Whether a signed version fits: before a byte of its payload is fetched. Refuses with
  /// PlanMismatch, TooLarge or WrongBase (a rewritten history).
  core::Expected<void> check(const wire::VersionManifest& manifest) const;

  /// The version is applied. @return whether that is new: catching up after a restart is not
  bool follow(const wire::VersionManifest& manifest);
  /// The plan is followed. @return whether it tells of a roster change that is new
  bool note_roster(const wire::RoundPlan& plan);
  /// The update is made, and the only one of its base version.
  void keep(Answer answer);
  /// The stored update was lost (its payload is damaged or gone): it may be made again, which gives
  /// the same bits.
  void forget_answer() { answer_.reset(); }
  const std::optional<Answer>& answer() const { return answer_; }
  /// Versions followed in this life or an earlier one.
  std::uint64_t num_followed() const { return heads_.size(); }
  const std::vector<core::Digest>& heads() const { return heads_; }

  /// Of a module in a version; see Pinned.
  std::int64_t max_rank() const { return pinned_.max_rank; }
  /// Bytes that versions, partials and the update may take together: by default every version and
  /// the largest update of the client's own rank, which may be more than a version can keep.
  std::uint64_t max_storage() const;
  /// What the file holds.
  std::string file_text() const;

 private:
  void load(const std::filesystem::path& file);

  ContractTerms terms_;
  Pinned pinned_;
  std::uint64_t max_version_bytes_ = 0;
  std::vector<core::Digest> heads_;  ///< of the versions followed, in this life or an earlier one
  std::optional<Answer> answer_;
  wire::RosterMark planned_roster_;    ///< of the newest plan that was followed
  wire::RosterMark published_roster_;  ///< of the newest version that was followed
};

}  // namespace drystone::client
