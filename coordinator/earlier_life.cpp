#include "coordinator/earlier_life.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "coordinator/console.h"
#include "coordinator/federation_id.h"
#include "coordinator/state_folder.h"
#include "coordinator/state_lock.h"
#include "coordinator/store.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/log.h"
#include "core/shorten.h"
#include "core/text.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

namespace {

std::size_t num_versions(const fs::path& run) {
  std::error_code ignored;
  const fs::directory_iterator versions(run / "versions", ignored);
  return static_cast<std::size_t>(std::distance(begin(versions), end(versions)));
}

using Keys = std::map<std::string, std::string>;  // of the semantic text, with their values

Keys semantic_keys(const core::Config& config) {
  std::istringstream lines(core::semantic_text(config));
  Keys keys;
  std::string line;
  std::getline(lines, line);  // its title
  while (std::getline(lines, line)) {
    const std::size_t at = line.find(" = ");
    keys[line.substr(0, at)] = line.substr(at + 3);
  }
  return keys;
}

/// Two configurations, key by key.
class Comparison {
 public:
  Comparison(const core::Config& before, const core::Config& now)
      : before_(semantic_keys(before)), now_(semantic_keys(now)) {}

  /// "KEY: BEFORE -> NOW", groups of clients last, and of them only what is their own.
  std::vector<std::string> differences() const {
    Keys all = before_;
    all.insert(now_.begin(), now_.end());
    std::vector<std::string> shared;
    std::vector<std::string> own;
    for (const auto& [key, value] : all) {
      if (is_same(key) || is_told_by_another(key)) continue;
      const std::string text = key + ": " + shown(before_, key) + " -> " + shown(now_, key);
      (is_of_group(key) ? own : shared).push_back(text);
    }
    shared.insert(shared.end(), own.begin(), own.end());
    return shared;
  }

 private:
  static bool is_of_group(const std::string& key) { return key.starts_with("clients."); }
  static std::string value(const Keys& keys, const std::string& key) {
    const auto found = keys.find(key);
    return found == keys.end() ? "" : found->second;
  }
  static std::string shown(const Keys& keys, const std::string& key) {
    constexpr std::size_t kMostBytes = 80;
    return keys.contains(key) ? core::shorten(value(keys, key), kMostBytes) : "not set";
  }
  bool is_same(const std::string& key) const { return value(before_, key) == value(now_, key); }

  /// By its group's count where that came or went, or by the default that it follows.
  bool is_told_by_another(const std::string& key) const {
    if (!is_of_group(key)) return false;
    const std::size_t dot = key.find('.', std::string("clients.").size());
    const std::string count = key.substr(0, dot) + ".count";
    if (before_.contains(count) != now_.contains(count)) return key != count;
    const std::string common = "training" + key.substr(dot);
    return value(before_, common) == value(before_, key) && value(now_, common) == value(now_, key);
  }

  Keys before_;
  Keys now_;
};

/// With the former's values for what a simulation finds out when it has the model and the texts.
core::Config filled(core::Config config, const core::Config& former) {
  if (config.model.sha256.empty()) config.model.sha256 = former.model.sha256;
  if (config.data.labels.empty()) config.data.labels = former.data.labels;
  return config;
}

std::string first_of(const std::vector<std::string>& differences) {
  constexpr std::size_t kMost = 5;
  const std::size_t shown = std::min(differences.size(), kMost);
  const std::size_t left = differences.size() - shown;
  const std::string text = core::join(std::span(differences).first(shown));
  return left == 0 ? text : text + " and " + std::to_string(left) + " more";
}

bool spans_all_rounds(const core::Config& config) {
  const auto spans = [](const core::TrainingConfig& training) {
    return training.schedule_over == "federation";
  };
  return spans(config.training) ||
         std::ranges::any_of(config.clients,
                             [&](const core::ClientGroup& group) { return spans(group.training); });
}

/// @param done  what `former` led to
void check_new_rounds(const core::Config& config, const core::Config& former,
                      const MachineState& done) {
  constexpr const char* kAnother =
      "; give that number again, or begin a federation that goes on from this one's global/ "
      "(model.adapter)";
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  const std::int64_t rounds = config.federation.rounds;
  const std::int64_t before = former.federation.rounds;
  const auto fail = [&](const std::string& problem) {
    throw core::config_error(config, "federation.rounds", problem);
  };
  if (static_cast<std::uint64_t>(rounds) < done.version) {
    fail("is " + number(rounds) + ", but " + std::to_string(done.version) +
         " rounds are done; give that number or a larger one");
  }
  const bool has_begun = done.version > 0 || done.open;
  if (has_begun && spans_all_rounds(config)) {
    fail("cannot change from " + number(before) + " to " + number(rounds) +
         ": training.schedule_over = \"federation\" spans the learning rate over all rounds, and "
         "those that are done had their part of " +
         number(before) + kAnother);
  }
  const std::string& compaction = config.aggregation.compaction;
  const bool cuts = compaction == "tolerance" || compaction == "rank";
  if (cuts && done.version == static_cast<std::uint64_t>(before)) {
    fail("cannot change from " + number(before) + " to " + number(rounds) +
         ": a last round cuts nothing (aggregation.compaction), and it is done" + kAnother);
  }
}

void remove_whole(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw core::file_error(path, "cannot be deleted", error);
}

}  // namespace

std::optional<core::Config> configuration_of(const fs::path& run, const std::string& federation) {
  try {
    core::Config config = core::load_config(run / kConfigFile);
    return federation_id(config) == federation ? std::optional(std::move(config)) : std::nullopt;
  } catch (const core::Error&) {  // missing, damaged, or of another version
    return std::nullopt;
  }
}

void refuse_earlier_run(const fs::path& run, const fs::path& state) {
  const std::size_t published = num_versions(run);
  if (!fs::exists(state / "state.sqlite")) {
    refuse_earlier_life(state);
    if (published == 0) return;
    throw core::ConfigError(run.string() + ": holds the versions of an earlier run, but " +
                            state.string() + " holds no state" + kLostStateRemedy);
  }
  if (published == 0) return;
  const std::uint64_t newest = Store(state).load().version;
  if (published <= newest + 1) return;
  throw core::ConfigError(run.string() + ": holds version " + std::to_string(published - 1) +
                          ", but the newest that " + state.string() + " knows is " +
                          std::to_string(newest) + kLostStateRemedy);
}

void refuse_other_configuration(const fs::path& run, const fs::path& state,
                                const core::Config& config) {
  if (!fs::is_regular_file(state / "state.sqlite")) return;
  const auto former = configuration_of(run, Store(state).federation());
  if (!former) return;
  const auto differences = Comparison(*former, filled(config, *former)).differences();
  if (differences.empty()) return;
  throw core::ConfigError(state.string() + ": holds the state of another configuration (" +
                          first_of(differences) + ")" + other_configuration_remedy(run));
}

void keep_begun_rounds(core::Config& config, const fs::path& run, const fs::path& state) {
  if (!fs::is_regular_file(state / "state.sqlite")) return;
  const Store store(state);
  const auto former = configuration_of(run, store.federation());
  if (!former) return;
  const core::FederationConfig& before = former->federation;
  const std::int64_t begun = before.begun_rounds > 0 ? before.begun_rounds : before.rounds;
  core::Config same = filled(config, *former);
  same.federation.begun_rounds = begun;
  if (federation_id(same) != store.federation()) return;
  if (config.federation.rounds != before.rounds) check_new_rounds(config, *former, store.load());
  config.federation.begun_rounds = config.federation.rounds == begun ? 0 : begun;
}

void tell_what_is_there(const Store& store) {
  const MachineState state = store.load();
  if (state.version == 0 && !state.open) return;
  const auto count = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  core::log_info("goes on with what is there",
                 {{"version", count(state.version)},
                  {"open_round", state.open ? count(state.open->plan.round) : 0},
                  {"accepted", state.open ? count(state.open->accepted.size()) : 0},
                  {"asked", state.open ? count(state.open->plan.cohort.size()) : 0}});
}

std::string stopped_text(const RunReport& report, const fs::path& folder,
                         const std::string& next_life) {
  const bool has_rounds = !report.rounds.empty();
  const std::string when =
      has_rounds ? "after round " + std::to_string(report.rounds.back().round) : "before round 1";
  return (has_rounds ? "\n" + results_table(report) + "\n" : "") + "stopped " + when + "; " +
         core::visible(folder.string()) + " keeps all that was done, and " + next_life +
         " goes on from there";
}

void start_over(const fs::path& run, const fs::path& state) {
  std::optional<StateLock> lock;
  if (fs::is_directory(state)) {
    lock.emplace(state);
    for (const char* const name :
         {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "blobs", "clients", "memory",
          "next.safetensors", "initial.safetensors", kStatusFile}) {
      remove_whole(state / name);
    }
    std::vector<fs::path> of_rounds;
    for (const auto& entry : fs::directory_iterator(state)) {
      const bool is_sum = version_of_sum(entry.path().filename().string()).has_value();
      if (is_sum || is_carry(entry.path())) of_rounds.push_back(entry.path());
    }
    for (const fs::path& file : of_rounds) remove_whole(file);
  }
  for (const char* const name : {"versions", "global", "report.json", "report.html", "config.toml",
                                 "layout.json", "SHA256SUMS", "metrics.jsonl"}) {
    remove_whole(run / name);
  }
}

}  // namespace drystone::coordinator
