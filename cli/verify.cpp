#include "cli/verify.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>

#include "aggregation/rules.h"
#include "cli/scratch_folder.h"
#include "cli/verify_global.h"
#include "cli/verify_report.h"
#include "cli/verify_state.h"
#include "coordinator/run_index.h"
#include "core/config.h"
#include "core/error.h"
#include "core/files.h"
#include "crypto/hash.h"
#include "tensors/threads.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMaxTextBytes = 1 << 30;
constexpr const char* kNeedsConfig = "not checked: needs config.toml";
constexpr const char* kRestore =
    "is missing; start the federation again on its state, which writes it, or restore it from a "
    "copy";

core::Digest semantic_hash(const core::Config& config) {
  const std::string text = core::semantic_text(config);
  return crypto::sha256(core::as_bytes(text));
}

template <typename Check>
bool is_wrong(const Check& check) {
  return check.wrong.has_value();
}

bool holds_payloads(const fs::path& state) {
  std::error_code ignored;  // a folder that is not there holds none
  const fs::directory_iterator blobs(state / "blobs", ignored);
  return std::any_of(begin(blobs), end(blobs),
                     [](const auto& entry) { return entry.is_regular_file(); });
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder)) entries.push_back(entry.path());
  std::ranges::sort(entries);
  return entries;
}

coordinator::VersionRecord parse_record(const std::string& json) {
  try {
    return coordinator::record_from_json(json);
  } catch (const core::IoError& error) {
    constexpr std::string_view kPrefix = "version record: ";
    const std::string text = reason(error);
    throw Wrong{"version.json: " + text.substr(text.starts_with(kPrefix) ? kPrefix.size() : 0)};
  }
}

class RunCheck {
 public:
  explicit RunCheck(const fs::path& run) : run_(run), dirs_(sorted_entries(run / "versions")) {}
  Verification run();

 private:
  template <typename Check>
  void part(const std::string& name, const std::string& how, Check check);
  void leave_out(const std::string& name);
  void check_config();
  void check_index();
  void check_layout();
  void check_versions();
  void check_global_folder();
  void check_state();
  void check_report_file();
  void compare_with_state(const StateFacts& state);
  void list_not_covered();
  coordinator::VersionRecord read_record(const fs::path& file) const;
  std::optional<core::Digest> config_that_was_run() const;
  bool keeps_updates() const { return config_ && config_->output.keep_updates; }
  bool versions_hold() const;

  fs::path run_;
  std::vector<fs::path> dirs_;          ///< of the versions
  std::optional<core::Config> config_;  ///< std::nullopt: damaged, or not the run's
  std::unique_ptr<aggregation::AggregationRule> rule_;
  std::optional<aggregation::AdapterLayout> layout_;
  ScratchFolder scratch_;
  std::vector<VersionFacts> facts_;
  std::vector<fs::path> payloads_;  ///< of facts_
  Verification result_;
  std::set<fs::path> covered_;
};

Verification RunCheck::run() {
  check_config();
  check_index();
  check_layout();
  check_versions();
  check_report_file();
  check_global_folder();
  check_state();
  list_not_covered();
  return std::move(result_);
}

/// Runs a check that throws Wrong, or whatever a damaged file brings about.
template <typename Check>
void RunCheck::part(const std::string& name, const std::string& how, Check check) {
  PartCheck found{.part = name, .how = how, .wrong = {}};
  try {
    check();
  } catch (const Wrong& wrong) {
    found.wrong = wrong.what;
  } catch (const std::exception& error) {
    found.wrong = reason(error);
  }
  result_.parts.push_back(std::move(found));
}

void RunCheck::leave_out(const std::string& name) {
  result_.parts.push_back({.part = name, .how = kNeedsConfig, .wrong = {}});
}

bool RunCheck::versions_hold() const {
  return !facts_.empty() && std::ranges::none_of(result_.versions, is_wrong<VersionCheck>);
}

void RunCheck::check_config() {
  const fs::path file = run_ / "config.toml";
  part("config.toml", "its hash is in every version, the rest by SHA256SUMS", [&] {
    hold(fs::is_regular_file(file), "is missing; restore it from a copy");
    core::read_text_file(file, kMaxTextBytes);  // says what is wrong without load_config's remedy
    core::Config config = core::load_config(file);
    hold(config_that_was_run().value_or(semantic_hash(config)) == semantic_hash(config),
         "is not the configuration that was run; restore it from a copy");
    rule_ = aggregation::make_rule(config.aggregation);
    config_ = std::move(config);
  });
}

/// What the first version that the coordinator's signature holds for names.
std::optional<core::Digest> RunCheck::config_that_was_run() const {
  for (const fs::path& dir : dirs_) {
    try {
      const std::string text = core::read_text_file(dir / "version.json", kMaxTextBytes);
      if (const auto config = signed_config(coordinator::record_from_json(text))) return config;
    } catch (const core::Error&) {  // check_versions tells
    }
  }
  return std::nullopt;
}

void RunCheck::check_index() {
  const fs::path index = run_ / coordinator::kRunIndex;
  covered_.insert(index);
  part(coordinator::kRunIndex, "the files are as they were written", [&] {
    hold(fs::exists(index), kRestore);
    const auto hashes = coordinator::read_run_index(run_);
    for (const auto& [file, hash] : hashes) {
      covered_.insert(run_ / file);
      hold(fs::exists(run_ / file), file + " is missing");
      hold(wire::hash_file(run_ / file) == hash, file + " was changed");
    }
    for (const char* const file : coordinator::kIndexedFiles) {
      hold(hashes.contains(file) || !fs::exists(run_ / file),
           std::string(file) + " is not listed: lines are missing; restore it from a copy");
    }
  });
}

void RunCheck::check_layout() {
  if (!fs::exists(run_ / "layout.json")) return;
  part("layout.json", "every kept update fits it",
       [&] { layout_ = aggregation::read_layout(run_ / "layout.json"); });
}

coordinator::VersionRecord RunCheck::read_record(const fs::path& file) const {
  const std::string text = core::read_text_file(file, kMaxTextBytes);
  coordinator::VersionRecord record = parse_record(text);
  hold(coordinator::to_json(record) == text, "version.json says more, or else, than was signed");
  return record;
}

void RunCheck::check_versions() {
  ChainRules rules{.config = {},
                   .config_source = "the versions before",
                   .keeps_updates = keeps_updates(),
                   .rule = rule_.get(),
                   .layout = layout_ ? &*layout_ : nullptr,
                   .scratch = scratch_.path()};
  if (config_) {
    rules.config = semantic_hash(*config_);
    rules.config_source = "config.toml";
    rules.rounds = static_cast<std::uint64_t>(config_->federation.rounds);
  }
  VersionChain chain(std::move(rules));
  for (const fs::path& dir : dirs_) {
    covered_.insert(dir / "version.json");
    VersionFacts facts = chain.check(
        [&] { return read_record(dir / "version.json"); },
        {.factors = dir / "factors.safetensors", .update = [&](const wire::UpdateManifest& claim) {
           return dir / "updates" / (claim.client + ".safetensors");
         }});
    covered_.insert(facts.files.begin(), facts.files.end());
    result_.versions.push_back(facts.check);
    facts_.push_back(std::move(facts));
    payloads_.push_back(dir / "factors.safetensors");
  }
  result_.head = chain.head();
  if (dirs_.empty()) part("versions", "", [] { throw Wrong{"is empty; restore it from a copy"}; });
  if (!config_) leave_out("recomputing the versions");
}

void RunCheck::check_report_file() {
  if (!fs::exists(run_ / "report.json")) return;
  const std::string how = config_ ? "as signed by clients and evaluators, and as recomputed"
                                  : "as signed by clients and evaluators; the rest ";
  part("report.json", config_ ? how : how + kNeedsConfig, [&] {
    hold(versions_hold(), "the versions that it tells of do not hold");
    check_report(core::read_text_file(run_ / "report.json", kMaxTextBytes),
                 config_ ? &*config_ : nullptr, facts_);
  });
}

void RunCheck::check_global_folder() {
  const bool is_there = fs::is_directory(run_ / "global");
  if (!is_there && dirs_.size() <= 1) return;  // stopped before the first round's end
  if (is_there && !config_) return leave_out("global");
  part("global", "written again from the versions, byte for byte", [&] {
    hold(is_there, kRestore);
    hold(versions_hold(), "the versions that it adds up do not hold");
    covered_.merge(check_global({.folder = run_ / "global",
                                 .config = *config_,
                                 .versions = facts_,
                                 .payloads = payloads_,
                                 .scratch = scratch_.path()}));
  });
}

void RunCheck::check_state() {
  const fs::path state = run_ / "state";
  if (!fs::exists(state / "state.sqlite")) {
    if (!holds_payloads(state)) return;  // a copy without it
    return part("state", "", [] {
      throw Wrong{"state.sqlite is missing beside blobs/; restore the newest copy of the folder"};
    });
  }
  const StateFacts found = verify_state(state, keeps_updates());
  covered_.insert(found.files.begin(), found.files.end());
  result_.not_covered.push_back(std::string("state/") + kUnsignedState);
  result_.parts.push_back(found.check);
  if (found.check.wrong) return;
  part("state and run", "the same versions", [&] { compare_with_state(found); });
  // The simulator makes it again; a deployed coordinator's lies beside its configuration.
  const fs::path initial = state / "initial.safetensors";
  if (!fs::exists(initial)) return;
  covered_.insert(initial);
  part("state/initial.safetensors", "version 0", [&] {
    hold(!facts_.empty() && facts_.front().manifest.has_value(), "version 0 is not known");
    hold(wire::hash_file(initial) == facts_.front().manifest->payload, "is not version 0");
  });
}

void RunCheck::compare_with_state(const StateFacts& state) {
  hold(state.versions.size() == result_.versions.size(),
       "the state has " + std::to_string(state.versions.size()) + " versions, the run folder " +
           std::to_string(result_.versions.size()) +
           "; a coordinator that ends or is stopped brings it up to date");
  hold(state.head == result_.head, "the state ends in another head");
  if (!fs::exists(run_ / "report.json")) return;
  compare_rounds(core::read_text_file(run_ / "report.json", kMaxTextBytes), state.reports);
}

void list_files(Verification& result, const fs::path& folder, const std::set<fs::path>& covered) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory() || covered.contains(entry.path())) continue;
    names.push_back(entry.path().lexically_relative(folder).generic_string());
  }
  std::ranges::sort(names);
  result.not_covered.insert(result.not_covered.end(), names.begin(), names.end());
}

void RunCheck::list_not_covered() { list_files(result_, run_, covered_); }

}  // namespace

bool Verification::is_sound() const {
  return !versions.empty() && std::ranges::none_of(versions, is_wrong<VersionCheck>) &&
         std::ranges::none_of(parts, is_wrong<PartCheck>);
}

Verification verify_run(const fs::path& run) {
  if (!fs::is_directory(run / "versions")) {
    throw core::ConfigError(run.string() +
                            ": has neither versions/ nor state.sqlite; name a run folder or a "
                            "coordinator's state folder");
  }
  tensors::use_threads(1);  // as the coordinator aggregates: the number is part of the bits
  return RunCheck(run).run();
}

Verification verify_state_folder(const fs::path& state) {
  const StateFacts found = verify_state(state);
  Verification result{.versions = found.versions,
                      .parts = {found.check},
                      .not_covered = {kUnsignedState},
                      .head = found.head};
  if (found.missing_updates > 0) {
    result.not_covered.push_back("blobs: " + std::to_string(found.missing_updates) +
                                 " updates of finished rounds are not there: not kept "
                                 "(output.keep_updates = false), or lost");
  }
  list_files(result, state, found.files);
  return result;
}

}  // namespace drystone::cli
