#include "cli/inspection.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include <nlohmann/json.hpp>

#include "aggregation/compaction.h"
#include "coordinator/store.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json_object.h"
#include "core/text.h"
#include "evaluation/evaluate_ensemble.h"
#include "tensors/factor_set_io.h"
#include "tensors/peft_io.h"

namespace drystone::cli {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

ModuleInspection inspect_module(const std::string& name, const tensors::Factors& factors) {
  const auto compacted =
      aggregation::compact(factors, {.kind = aggregation::CompactionKind::Lossless});
  ModuleInspection module{.name = name,
                          .out = factors.out_features(),
                          .in = factors.in_features(),
                          .rank = factors.rank(),
                          .norm = 0.0,
                          .singular = compacted.report.sigma};
  for (const double sigma : module.singular) module.norm += sigma * sigma;
  module.norm = std::sqrt(module.norm);
  return module;
}

void add_factors(Inspection& inspection, const tensors::FactorSet& factors,
                 const std::string& prefix = {}) {
  for (const auto& [name, pair] : factors.modules) {
    inspection.modules.push_back(inspect_module(prefix + name, pair));
  }
  for (const auto& [name, tensor] : factors.dense) {
    std::string sizes;
    for (const auto size : tensor.sizes())
      sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
    inspection.dense.push_back(prefix + name + " [" + sizes + "]");
  }
}

std::string inspect_state(const fs::path& dir) {
  const coordinator::Store store(dir);
  const coordinator::MachineState state = store.load();
  Json object = {{"federation", store.federation()},
                 {"version", state.version},
                 {"head", core::to_hex(state.head)},
                 {"open_round", nullptr},
                 {"rounds", Json::array()}};
  if (state.open) {
    Json accepted = Json::array();
    for (const auto& [client, update] : state.open->accepted) accepted.push_back(client);
    object["open_round"] = {{"round", state.open->plan.round},
                            {"attempt", state.open->plan.attempt},
                            {"cohort", state.open->plan.cohort},
                            {"accepted", accepted}};
  }
  for (const coordinator::RoundReport& round : store.rounds()) {
    object["rounds"].push_back(Json::parse(coordinator::to_json(round)));
  }
  return object.dump();
}

std::string state_text(const Json& state) {
  std::string text = "  federation " + state.at("federation").get<std::string>() +
                     "\n  version    " + std::to_string(state.at("version").get<std::uint64_t>()) +
                     "\n  head       " + state.at("head").get<std::string>() + "\n";
  if (const Json& open = state.at("open_round"); !open.is_null()) {
    text += "  open       round " + std::to_string(open.at("round").get<std::uint64_t>()) +
            ", attempt " + std::to_string(open.at("attempt").get<std::uint64_t>()) + ": " +
            std::to_string(open.at("accepted").size()) + " of " +
            std::to_string(open.at("cohort").size()) + " updates accepted\n";
  }
  for (const Json& round : state.at("rounds")) {
    text += "  round " + std::to_string(round.at("round").get<std::uint64_t>()) + "    " +
            std::to_string(round.at("accepted").get<std::uint64_t>()) + " of " +
            std::to_string(round.at("asked").get<std::uint64_t>()) + " updates, train loss " +
            core::format_fixed(round.at("train_loss").get<double>(), 4) + ", " +
            round.at("exactness").get<std::string>() + "\n";
  }
  return text;
}

}  // namespace

namespace {

/// The report's text, once it is known to hold what to_text looks for.
std::string read_report(const fs::path& file) {
  constexpr core::JsonLimits kLimits{.max_bytes = 1 << 30};
  std::string text = core::read_text_file(file, kLimits.max_bytes);
  const auto report = core::JsonObject::parse(text, file, kLimits);
  report.text("config_hash");
  report.text("head");
  if (!report.json().contains("rounds")) report.fail("rounds", "is missing; fetch the file again");
  return text;
}

/// One file of an adapter says nothing by itself: its scaling and names are in the folder.
void refuse_adapter_file(const fs::path& path) {
  if (path.filename() != "adapter_model.safetensors") return;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  throw core::ConfigError(path.string() + ": is one file of an adapter; name its folder " +
                          folder.string());
}

}  // namespace

void require_existing(const fs::path& path) {
  std::error_code unreadable;  // whoever reads it says why
  if (fs::exists(path, unreadable) || unreadable) return;
  throw core::ConfigError(path.string() +
                          ": does not exist; name a run folder, a state folder, an adapter folder "
                          "or a .safetensors file");
}

Inspection inspect(const fs::path& path) {
  require_existing(path);
  refuse_adapter_file(path);
  Inspection inspection{.what = {}, .modules = {}, .dense = {}, .report = {}, .state = {}};
  if (fs::exists(path / "report.json")) {
    inspection.what = "run " + path.string();
    inspection.report = read_report(path / "report.json");
    if (fs::exists(path / "global" / "adapter_config.json")) {
      add_factors(inspection, tensors::read_peft(path / "global"));
    }
    for (const fs::path& member : evaluation::member_folders(path / "global")) {
      add_factors(inspection, tensors::read_peft(member), member.filename().string() + "/");
    }
  } else if (fs::exists(path / "state.sqlite")) {
    inspection.what = "state " + path.string();
    inspection.state = inspect_state(path);
  } else if (fs::exists(path / "state" / "state.sqlite")) {  // a run that has not ended yet
    inspection.what = "state " + (path / "state").string();
    inspection.state = inspect_state(path / "state");
  } else if (fs::exists(path / "adapter_config.json")) {
    inspection.what = "adapter " + path.string();
    add_factors(inspection, tensors::read_peft(path));
  } else if (path.extension() == ".safetensors") {
    inspection.what = "factors " + path.string();
    add_factors(inspection, tensors::read_factor_set(path));
  } else {
    throw core::ConfigError(path.string() +
                            ": not a run folder (report.json), a state folder "
                            "(state.sqlite), an adapter folder (adapter_config.json) or a "
                            ".safetensors file");
  }
  return inspection;
}

std::string to_text(const Inspection& inspection) {
  std::string text = core::visible(inspection.what) + "\n";
  if (!inspection.report.empty()) {
    const Json report = Json::parse(inspection.report);
    text += "  federation " + report.at("config_hash").get<std::string>() + "\n  head       " +
            report.at("head").get<std::string>() + "\n  rounds     " +
            std::to_string(report.at("rounds").size()) + "\n";
  }
  if (!inspection.state.empty()) text += state_text(Json::parse(inspection.state));
  if (!inspection.modules.empty()) {
    text += "\n  out × in       rank   ‖ΔW‖       σ₁         σ_r        module\n";
  }
  for (const ModuleInspection& module : inspection.modules) {
    const double first = module.singular.empty() ? 0.0 : module.singular.front();
    const double last = module.singular.empty() ? 0.0 : module.singular.back();
    char line[160];
    std::snprintf(line, sizeof line, "  %5lld × %-5lld  %5lld  %-9.4g  %-9.4g  %-9.4g  ",
                  static_cast<long long>(module.out), static_cast<long long>(module.in),
                  static_cast<long long>(module.rank), module.norm, first, last);
    text += line + core::visible(module.name) + "\n";
  }
  for (const std::string& part : inspection.dense) {
    text += "  dense  " + core::visible(part) + "\n";
  }
  return text;
}

std::string to_json(const Inspection& inspection) {
  Json object = {
      {"what", inspection.what}, {"modules", Json::array()}, {"dense", inspection.dense}};
  for (const ModuleInspection& module : inspection.modules) {
    object["modules"].push_back({{"name", module.name},
                                 {"out", module.out},
                                 {"in", module.in},
                                 {"rank", module.rank},
                                 {"norm", module.norm},
                                 {"singular", module.singular}});
  }
  if (!inspection.report.empty()) object["report"] = Json::parse(inspection.report);
  if (!inspection.state.empty()) object["state"] = Json::parse(inspection.state);
  return object.dump(2) + "\n";
}

namespace {

/// The folder whose files are told together: "state/clients" of whatever lies below it.
std::string folder_of(const std::string& entry) {
  const std::size_t first = entry.find('/');
  if (first == std::string::npos) return "";
  const std::size_t second = entry.find('/', first + 1);
  const bool is_nested = entry.starts_with("state/") && second != std::string::npos;
  return entry.substr(0, is_nested ? second : first);
}

std::string not_covered_text(const std::vector<std::string>& entries) {
  constexpr std::size_t kMaxShown = 5;
  std::vector<std::pair<std::string, std::vector<std::string>>> folders;
  for (const std::string& entry : entries) {
    auto found = std::ranges::find(folders, folder_of(entry),
                                   &std::pair<std::string, std::vector<std::string>>::first);
    if (found == folders.end()) found = folders.insert(found, {folder_of(entry), {}});
    found->second.push_back(entry);
  }
  std::vector<std::string> words;
  for (const auto& [folder, files] : folders) {
    const std::size_t shown = std::min(files.size(), kMaxShown);
    words.insert(words.end(), files.begin(), files.begin() + static_cast<std::ptrdiff_t>(shown));
    if (files.size() == shown) continue;
    words.back() += " and " + std::to_string(files.size() - shown) + " more" +
                    (folder.empty() ? "" : " in " + folder);
  }
  return core::join(words);
}

std::string verdict_of(const Verification& verification) {
  const auto is_wrong = [](const auto& check) { return check.wrong.has_value(); };
  const std::string checks =
      std::to_string(verification.versions.size() + verification.parts.size()) + " checks";
  if (verification.is_sound()) return "sound: all " + checks + " hold";
  const auto num_wrong = std::ranges::count_if(verification.versions, is_wrong) +
                         std::ranges::count_if(verification.parts, is_wrong);
  return "WRONG: " + std::to_string(num_wrong) + " of " + checks + " do not hold";
}

}  // namespace

std::string to_text(const Verification& verification) {
  std::string text;
  for (const VersionCheck& check : verification.versions) {
    text += "version " + std::to_string(check.version) + ": ";
    if (check.wrong) {
      text += "WRONG: " + core::visible(*check.wrong) + "\n";
      continue;
    }
    text += "signatures and chain hold";
    if (check.version > 0) {
      text += ", " + std::to_string(check.updates) + " updates, " +
              (check.recomputed ? "recomputed bit for bit" : "not recomputed");
    }
    text += "\n";
  }
  for (const PartCheck& check : verification.parts) {
    const std::string verdict = check.wrong ? "WRONG: " + *check.wrong : check.how;
    text += core::visible(check.part + ": " + verdict) + "\n";
  }
  if (!verification.not_covered.empty()) {
    text += "not covered: " + core::visible(not_covered_text(verification.not_covered)) + "\n";
  }
  return text + "head " + core::to_hex(verification.head) + "\n" + verdict_of(verification) + "\n";
}

std::string to_json(const Verification& verification) {
  const auto said = [](const auto& check) {
    return check.wrong ? Json(*check.wrong) : Json(nullptr);
  };
  Json versions = Json::array();
  for (const VersionCheck& check : verification.versions) {
    versions.push_back({{"version", check.version},
                        {"updates", check.updates},
                        {"recomputed", check.recomputed},
                        {"wrong", said(check)}});
  }
  Json parts = Json::array();
  for (const PartCheck& check : verification.parts) {
    parts.push_back({{"part", check.part}, {"how", check.how}, {"wrong", said(check)}});
  }
  const Json object = {{"sound", verification.is_sound()},
                       {"head", core::to_hex(verification.head)},
                       {"versions", versions},
                       {"parts", parts},
                       {"not_covered", verification.not_covered}};
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace drystone::cli
