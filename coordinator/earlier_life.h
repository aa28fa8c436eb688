#pragma once
// What another federation, or an earlier life of this one, left in the folders that a coordinator
// is about to use, and what this life says when it is stopped. Only --start-over deletes it.

#include <filesystem>
#include <optional>
#include <string>

#include "coordinator/report.h"
#include "coordinator/store.h"
#include "core/config.h"

namespace drystone::coordinator {

/// Of a run folder: the resolved configuration.
inline constexpr const char* kConfigFile = "config.toml";

/// What RUN/config.toml says, if that is the configuration of `federation`.
std::optional<core::Config> configuration_of(const std::filesystem::path& run,
                                             const std::string& federation);

/// @throws core::ConfigError  `run` holds published versions that `state` does not know (it was
///         lost, or an older copy was restored): going on would write over another history
void refuse_earlier_run(const std::filesystem::path& run, const std::filesystem::path& state);

/// @throws core::ConfigError  `state` is of another configuration, whose RUN/config.toml is there:
///         names the keys that differ. Without that file, or where only what `config` leaves to the
///         model and the texts may differ (model.sha256, data.labels), Store refuses.
void refuse_other_configuration(const std::filesystem::path& run,
                                const std::filesystem::path& state, const core::Config& config);

/// Where `state` is of this configuration but for its number of rounds: fills in
/// federation.begun_rounds, found in RUN/config.toml, so that the federation keeps its hash and
/// goes on to the new number. Anything else it leaves for refuse_other_configuration.
/// @throws core::ConfigError  a number that what is done does not fit, with the remedy
void keep_begun_rounds(core::Config& config, const std::filesystem::path& run,
                       const std::filesystem::path& state);

/// Says to the log what a life that was begun before goes on with; of a new one nothing.
void tell_what_is_there(const Store& store);

/// For the end of a program that was asked to stop: the finished rounds' table, what is kept, and
/// how it goes on.
/// @param folder     that holds the state
/// @param next_life  "starting it again"
std::string stopped_text(const RunReport& report, const std::filesystem::path& folder,
                         const std::string& next_life);

/// Deletes the state and the record in both folders, by the names that coordinators give; logs and
/// whatever else lies there stay. @throws core::IoError  in use, or it cannot be deleted
void start_over(const std::filesystem::path& run, const std::filesystem::path& state);

}  // namespace drystone::coordinator
