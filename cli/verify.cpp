#include "cli/verify.h"

#include <algorithm>
#include <memory>
#include <set>

#include <nlohmann/json.hpp>

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

core::Digest semantic_hash(const core::Config& config) {
  const std::string text = core::semantic_text(config);
  return crypto::sha256(core::as_bytes(text));
}

template <typename Check>
bool is_wrong(const Check& check) {
  return check.wrong.has_value();
}

class RunCheck {
 public:
  explicit RunCheck(const fs::path& run)
      : run_(run),
        config_(core::load_config(run / "config.toml")),
        rule_(aggregation::make_rule(config_.aggregation)) {}
  Verification run();

 private:
  template <typename Check>
  void part(const std::string& name, const std::string& how, Check check);
  void check_versions();
  void check_index();
  void check_global_folder();
  void check_state();
  void check_report_file();
  void compare_with_state(const StateFacts& state);
  void list_not_covered();
  coordinator::VersionRecord read_record(const fs::path& file) const;

  fs::path run_;
  core::Config config_;
  std::unique_ptr<aggregation::AggregationRule> rule_;
  std::optional<aggregation::AdapterLayout> layout_;
  ScratchFolder scratch_;
  std::vector<VersionFacts> facts_;
  std::vector<fs::path> payloads_;  ///< of facts_
  Verification result_;
  std::set<fs::path> covered_;
};

Verification RunCheck::run() {
  check_index();
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
    found.wrong = error.what();
  }
  result_.parts.push_back(std::move(found));
}

void RunCheck::check_index() {
  if (!fs::exists(run_ / coordinator::kRunIndex)) return;
  covered_.insert(run_ / coordinator::kRunIndex);
  part(coordinator::kRunIndex, "the files are as they were written", [&] {
    for (const auto& [file, hash] : coordinator::read_run_index(run_)) {
      covered_.insert(run_ / file);
      hold(fs::exists(run_ / file), file + " is missing");
      hold(wire::hash_file(run_ / file) == hash, file + " was changed");
    }
  });
  if (fs::exists(run_ / "layout.json")) {
    part("layout.json", "every kept update fits it",
         [&] { layout_ = aggregation::read_layout(run_ / "layout.json"); });
  }
}

coordinator::VersionRecord RunCheck::read_record(const fs::path& file) const {
  const std::string text = core::read_text_file(file, kMaxTextBytes);
  coordinator::VersionRecord record = coordinator::record_from_json(text);
  hold(coordinator::to_json(record) == text, "version.json says more, or else, than was signed");
  return record;
}

void RunCheck::check_versions() {
  std::vector<fs::path> dirs;
  for (const auto& entry : fs::directory_iterator(run_ / "versions")) dirs.push_back(entry.path());
  std::ranges::sort(dirs);
  VersionChain chain({.config = semantic_hash(config_),
                      .config_source = "config.toml",
                      .rule = rule_.get(),
                      .rounds = static_cast<std::uint64_t>(config_.federation.rounds),
                      .layout = layout_ ? &*layout_ : nullptr,
                      .scratch = scratch_.path()});
  for (const fs::path& dir : dirs) {
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
}

void RunCheck::check_report_file() {
  if (!fs::exists(run_ / "report.json")) return;
  part("report.json", "as signed by clients and evaluators, and as recomputed", [&] {
    hold(std::ranges::none_of(result_.versions, is_wrong<VersionCheck>),
         "the versions that it tells of do not hold");
    check_report(core::read_text_file(run_ / "report.json", kMaxTextBytes), config_, facts_);
  });
}

void RunCheck::check_global_folder() {
  if (!fs::exists(run_ / "global")) return;
  part("global", "written again from the versions, byte for byte", [&] {
    hold(std::ranges::none_of(result_.versions, is_wrong<VersionCheck>),
         "the versions that it adds up do not hold");
    covered_.merge(check_global({.folder = run_ / "global",
                                 .config = config_,
                                 .versions = facts_,
                                 .payloads = payloads_,
                                 .scratch = scratch_.path()}));
  });
}

void RunCheck::check_state() {
  const fs::path state = run_ / "state";
  if (!fs::exists(state / "state.sqlite")) return;
  const StateFacts found = verify_state(state);
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
  using Json = nlohmann::ordered_json;
  const Json report = Json::parse(core::read_text_file(run_ / "report.json", kMaxTextBytes));
  for (std::size_t i = 0; i < state.reports.size(); ++i) {
    Json told = report.at("rounds").at(i);
    Json kept = Json::parse(state.reports[i]);
    told.erase("eval");  // comes after the round's row
    kept.erase("eval");
    hold(told == kept, "round " + std::to_string(i + 1) + " of report.json is not the state's");
  }
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
    throw core::ConfigError(run.string() + ": has no versions/; name a run folder");
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
  list_files(result, state, found.files);
  return result;
}

}  // namespace drystone::cli
