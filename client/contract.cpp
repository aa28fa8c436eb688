#include "client/contract.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "adapters/registry.h"
#include "aggregation/rules.h"
#include "aggregation/version_checks.h"
#include "core/check.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/text.h"
#include "crypto/hash.h"

namespace drystone::client {

namespace {

using core::Refusal;
using core::refuse;
using Json = nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = 64 << 20;
constexpr int kFormat = 1;

std::string text(std::uint64_t number) { return std::to_string(number); }

/// "training.alpha = 16.0" of each side, for the first key in which two canonical texts differ.
std::string difference(const std::string& own, const std::string& planned) {
  const auto lines = [](const std::string& all) {
    std::vector<std::string> result;
    std::size_t begin = 0;
    while (begin < all.size()) {
      const std::size_t end = std::min(all.find('\n', begin), all.size());
      result.push_back(all.substr(begin, end - begin));
      begin = end + 1;
    }
    return result;
  };
  const auto first_missing = [](const std::vector<std::string>& from,
                                const std::vector<std::string>& in) -> std::string {
    const auto found = std::ranges::find_if(
        from, [&](const std::string& line) { return std::ranges::find(in, line) == in.end(); });
    constexpr std::size_t kShown = 120;
    return found == from.end() ? "nothing" : core::quote(found->substr(0, kShown));
  };
  const auto ours = lines(own);
  const auto theirs = lines(planned);
  return "here " + first_missing(ours, theirs) + ", in the plan " + first_missing(theirs, ours);
}

/// Whether `mark` is older than `known`, or another change of the same number.
bool contradicts(const wire::RosterMark& mark, const wire::RosterMark& known) {
  return mark.change < known.change || (mark.change == known.change && mark != known);
}

std::string replayed(const wire::RosterMark& mark, const wire::RosterMark& known) {
  const bool is_older = mark.change < known.change;
  return "was made under roster change " + std::to_string(mark.change) +
         (is_older ? ", after change " + std::to_string(known.change) + " was in force"
                   : ", which is another one than before");
}

Json to_json(const wire::RosterMark& mark) {
  return {{"change", mark.change}, {"digest", core::to_hex(mark.digest)}};
}

/// Of a file that has none: the roster never changed.
wire::RosterMark mark_from(const Json& json, const char* key) {
  if (!json.contains(key)) return {};
  return {.change = json.at(key).at("change").get<std::uint64_t>(),
          .digest = core::digest_from_hex(json.at(key).at("digest").get<std::string>())};
}

Json to_json(const Pinned& pinned) {
  return {{"format", kFormat},
          {"federation", pinned.federation},
          {"max_rank", pinned.max_rank},
          {"heads", Json::array()}};
}

std::string dump(const Json& json) { return json.dump(2) + "\n"; }

}  // namespace

ContractTerms terms_of(const core::Config& config, const core::ListedClient& listed,
                       aggregation::AdapterLayout layout) {
  const bool is_shy = config.client.reveal == "minimal";
  return {.client = listed.name,
          .rounds = static_cast<std::uint64_t>(config.federation.rounds),
          .seed = config.seed,
          .start = aggregation::start_of(config.aggregation),
          .mode = aggregation::find_rule(config.aggregation).mode,
          .settings = core::settings_text(config, listed),
          .min_examples = is_shy ? kMinExamples : 1,
          .min_steps = is_shy ? kMinSteps : 1,
          .layout = std::make_shared<aggregation::AdapterLayout>(
              aggregation::version_layout(std::move(layout))),
          .export_rank = adapters::export_rank(adapters::spec_of(listed.training)),
          .max_storage = config.client.max_storage};
}

std::int64_t version_rank(const core::Config& config) {
  if (config.aggregation.compaction != "none") return 0;
  std::int64_t sum = 0;
  const core::ClientList list(config);
  for (std::size_t kind = 0; kind < list.num_kinds(); ++kind) {
    const core::ListedClient listed = list[list.first(kind)];
    sum += static_cast<std::int64_t>(list.count(kind)) *
           adapters::export_rank(adapters::spec_of(listed.training));
  }
  return sum;
}

void distrust(const std::string& what) {
  throw core::Error("coordinator: " + what +
                    "; check that the coordinator's key and this client's state folder belong to "
                    "the same federation");
}

void write_contract(const std::filesystem::path& file, const std::string& text) {
  core::write_file_atomic(file, core::as_bytes(text), 0600);
}

void pin(const Pinned& pinned, const std::filesystem::path& file) {
  if (std::filesystem::exists(file)) {
    const Json there = core::read_json(file, {.max_bytes = kMaxFileBytes});
    if (there.value("federation", "") == pinned.federation) return;  // what was followed stays
  }
  write_contract(file, dump(to_json(pinned)));
}

Contract::Contract(ContractTerms terms, Pinned pinned, std::vector<core::Digest> heads)
    : terms_(std::move(terms)), pinned_(std::move(pinned)), heads_(std::move(heads)) {
  max_version_bytes_ = aggregation::max_version_bytes(*terms_.layout, pinned_.max_rank);
}

Contract::Contract(ContractTerms terms, const std::filesystem::path& file)
    : terms_(std::move(terms)) {
  if (std::filesystem::exists(file)) load(file);
  max_version_bytes_ = aggregation::max_version_bytes(*terms_.layout, pinned_.max_rank);
}

core::Expected<void> Contract::meet(const std::string& federation) {
  const bool is_id = federation.size() == 2 * core::Digest{}.size() &&
                     federation.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (pinned_.federation.empty() && is_id) pinned_.federation = federation;
  if (federation == pinned_.federation) return {};
  return refuse(Refusal::PlanMismatch, "it runs federation " + federation.substr(0, 12) +
                                           ", this client is of " +
                                           pinned_.federation.substr(0, 12));
}

core::Expected<void> Contract::check(const wire::RoundPlan& plan,
                                     const std::string& settings) const {
  const auto no = [](std::string why) { return refuse(Refusal::PlanRefused, std::move(why)); };
  if (!terms_.trains) return no("this client has no data.train");
  if (plan.federation != pinned_.federation) {
    return no("federation " + plan.federation.substr(0, 12) + "; this client is of " +
              pinned_.federation.substr(0, 12));
  }
  if (plan.round == 0 || plan.round > terms_.rounds) {
    return no("round " + text(plan.round) + " of " + text(terms_.rounds) + " (federation.rounds)");
  }
  if (plan.base_version != plan.round - 1) {
    return no("round " + text(plan.round) + " from version " + text(plan.base_version));
  }
  if (plan.round < num_followed()) {
    return no("round " + text(plan.round) + " after version " + text(num_followed() - 1));
  }
  if (plan.seed != terms_.seed) {
    return no("seed " + text(plan.seed) + "; here it is " + text(terms_.seed));
  }
  if (plan.start != terms_.start) {
    return no("start " + core::quote(plan.start) + "; here it is " + core::quote(terms_.start));
  }
  for (const wire::RosterMark& known : {planned_roster_, published_roster_}) {
    if (contradicts(plan.roster, known)) {
      return no("round " + text(plan.round) + " " + replayed(plan.roster, known));
    }
  }
  if (terms_.num_examples < terms_.min_examples || terms_.num_steps < terms_.min_steps) {
    return no("trains on " + std::to_string(terms_.num_examples) + " examples in " +
              std::to_string(terms_.num_steps) +
              " steps, and client.reveal = \"minimal\" asks for " +
              std::to_string(terms_.min_examples) + " in " + std::to_string(terms_.min_steps));
  }
  if (answer_ && answer_->manifest.base_version == plan.base_version &&
      answer_->base_head != plan.base_head) {
    return no("another version " + text(plan.base_version) + " than the one answered before");
  }
  if (plan.settings.empty()) return {};
  const auto place = std::ranges::lower_bound(plan.cohort, terms_.client) - plan.cohort.begin();
  core::require(place < std::ssize(plan.settings), "Contract: a plan that does not ask the client");
  const core::Digest& planned = plan.settings[static_cast<std::size_t>(place)];
  if (planned == core::Digest{} || planned == crypto::sha256(core::as_bytes(terms_.settings))) {
    return {};
  }
  const bool is_told = planned == crypto::sha256(core::as_bytes(settings));
  return refuse(Refusal::SettingsDiffer,
                (is_told ? difference(terms_.settings, settings)
                         : std::string("this client's settings are not the plan's")) +
                    "; make them equal, or let roster.toml say settings = \"own\"");
}

core::Expected<void> Contract::check_evaluation(std::uint64_t version) const {
  if (!terms_.evaluates) return refuse(Refusal::PlanRefused, "this client has no data.test");
  if (version > terms_.rounds) {
    return refuse(Refusal::PlanRefused,
                  "version " + text(version) + " of " + text(terms_.rounds) + " rounds");
  }
  return {};
}

core::Expected<void> Contract::check(const wire::VersionManifest& manifest) const {
  const std::string name = "version " + text(manifest.version);
  if (core::to_hex(manifest.config) != pinned_.federation) {
    return refuse(Refusal::PlanMismatch,
                  name + " is of federation " + core::to_hex(manifest.config).substr(0, 12) +
                      ", this client of " + pinned_.federation.substr(0, 12));
  }
  if (manifest.version > terms_.rounds || manifest.round != manifest.version) {
    return refuse(Refusal::PlanMismatch, name + " of round " + text(manifest.round) + " in " +
                                             text(terms_.rounds) +
                                             " rounds; if the federation was given more, raise "
                                             "federation.rounds here too");
  }
  if (manifest.version > 0 && manifest.mode != terms_.mode) {
    return refuse(Refusal::PlanMismatch, name + " is published as another aggregation.rule would");
  }
  if (manifest.payload_bytes > max_version_bytes_) {
    return refuse(Refusal::TooLarge,
                  name + " announces " + core::format_bytes(manifest.payload_bytes) + ", at most " +
                      core::format_bytes(max_version_bytes_) +
                      " fit this model; if its ranks are right, set max_rank in its contract.json");
  }
  if (manifest.version < num_followed() && manifest.head != heads_.at(manifest.version)) {
    return refuse(Refusal::WrongBase, name + " is not the one that this client followed before");
  }
  if (manifest.version >= num_followed() && contradicts(manifest.roster, published_roster_)) {
    return refuse(Refusal::WrongBase, name + " " + replayed(manifest.roster, published_roster_));
  }
  return {};
}

bool Contract::follow(const wire::VersionManifest& manifest) {
  if (manifest.version < num_followed()) return false;
  core::require(manifest.version == num_followed(), "Contract: a version was left out");
  pinned_.federation = core::to_hex(manifest.config);
  heads_.push_back(manifest.head);
  published_roster_ = manifest.roster;
  if (answer_ && answer_->manifest.base_version < manifest.version) answer_.reset();
  return true;
}

bool Contract::note_roster(const wire::RoundPlan& plan) {
  return std::exchange(planned_roster_, plan.roster) != plan.roster;
}

void Contract::keep(Answer answer) { answer_ = std::move(answer); }

std::uint64_t Contract::max_storage() const {
  if (terms_.max_storage > 0) return static_cast<std::uint64_t>(terms_.max_storage);
  const std::uint64_t update = aggregation::max_payload_bytes(*terms_.layout, terms_.export_rank);
  std::uint64_t bytes = 0;
  const bool overflows = __builtin_mul_overflow(terms_.rounds + 1, max_version_bytes_, &bytes) ||
                         __builtin_add_overflow(bytes, update, &bytes);
  return overflows ? std::numeric_limits<std::uint64_t>::max() : bytes;
}

void Contract::load(const std::filesystem::path& file) {
  const auto damaged = [&](const std::string& why) -> core::IoError {
    return core::IoError(file.string() + ": " + why +
                         "; restore it from a backup, or choose another output.dir");
  };
  const Json json =
      core::read_json(file, {.max_bytes = kMaxFileBytes,
                             .remedy = "restore it from a backup, or choose another output.dir"});
  try {
    if (json.at("format") != kFormat) throw damaged("was written by another version");
    pinned_ = {.federation = json.at("federation").get<std::string>(),
               .max_rank = json.at("max_rank").get<std::int64_t>()};
    for (const Json& head : json.at("heads")) {
      heads_.push_back(core::digest_from_hex(head.get<std::string>()));
    }
    planned_roster_ = mark_from(json, "planned_roster");
    published_roster_ = mark_from(json, "published_roster");
    if (!json.contains("answer")) return;
    const Json& answer = json.at("answer");
    auto manifest = wire::decode_update(core::from_hex(answer.at("manifest").get<std::string>()));
    if (!manifest) throw damaged("holds an unreadable answer");
    answer_ = {.manifest = std::move(*manifest),
               .base_head = core::digest_from_hex(answer.at("base_head").get<std::string>()),
               .seconds = answer.at("seconds").get<double>()};
  } catch (const Json::exception&) {
    throw damaged("is damaged");
  } catch (const core::InvalidArgument&) {
    throw damaged("is damaged");
  }
}

std::string Contract::file_text() const {
  Json json = to_json(pinned_);
  for (const core::Digest& head : heads_) json["heads"].push_back(core::to_hex(head));
  if (planned_roster_.change > 0) json["planned_roster"] = to_json(planned_roster_);
  if (published_roster_.change > 0) json["published_roster"] = to_json(published_roster_);
  if (answer_) {
    json["answer"] = {{"manifest", core::to_hex(wire::encode(answer_->manifest))},
                      {"base_head", core::to_hex(answer_->base_head)},
                      {"seconds", answer_->seconds}};
  }
  return dump(json);
}

}  // namespace drystone::client
