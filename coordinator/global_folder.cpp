#include "coordinator/global_folder.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <system_error>

#include <ATen/TensorOperators.h>
#include <fcntl.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/client_list.h"
#include "core/file_errors.h"
#include "core/files.h"
#include "tensors/adapter_labels.h"
#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tensors/peft_io.h"
#include "tensors/pruning.h"
#include "tensors/safetensors_writer.h"
#include "wire/durable_file.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;
using aggregation::ModuleSum;
using aggregation::PublishedSum;

namespace {

at::Tensor in_float(const at::Tensor& tensor) { return tensor.to(at::kFloat).contiguous(); }

/// The parts of what all share (no member) or of one member, by their own names.
struct Scope {
  std::set<std::string> modules;
  std::set<std::string> dense;
};

struct Scopes {
  Scope shared;
  std::map<std::int64_t, Scope> members;
  std::map<std::string, std::string> statistics;  ///< own name → full name
};

Scopes scopes_of(const PublishedSum& sum) {
  Scopes scopes;
  for (const std::string& name : sum.modules()) {
    const auto member = tensors::split_member(name);
    Scope& scope = member ? scopes.members[member->member] : scopes.shared;
    scope.modules.emplace(member ? member->name : name);
  }
  for (const std::string& name : sum.dense()) {
    if (const auto statistic = tensors::statistic_name(name)) {
      scopes.statistics[*statistic] = name;
      continue;
    }
    const auto member = tensors::split_member(name);
    Scope& scope = member ? scopes.members[member->member] : scopes.shared;
    scope.dense.emplace(member ? member->name : name);
  }
  return scopes;
}

void write_adapter(const GlobalSettings& settings, const fs::path& folder,
                   const tensors::PeftParts& parts) {
  fs::create_directories(folder);
  if (!parts.ranks.empty()) {
    const bool is_lm = settings.config.model.task == "causal-lm";
    tensors::write_peft(
        folder, parts,
        {.base_model = settings.base_model, .task_type = is_lm ? "CAUSAL_LM" : "SEQ_CLS"});
  }
  const nlohmann::json evaluation = {{"max_length", settings.config.model.max_length}};
  core::write_file_atomic(folder / "evaluation.json", core::as_bytes(evaluation.dump() + "\n"));
  const std::vector<std::string>& labels = settings.config.data.labels;
  if (!labels.empty()) tensors::write_labels(folder, labels);
}

void write_shared(const GlobalSettings& settings, const fs::path& folder, const PublishedSum& sum,
                  const Scope& shared) {
  tensors::PeftParts parts{
      .ranks = {},
      .dense = shared.dense,
      .module =
          [&](const std::string& name) {
            sum.forget_pages();
            return sum.module(name).in_factors(at::kFloat);
          },
      .dense_part = [&](const std::string& name) { return in_float(sum.dense(name)); }};
  for (const std::string& name : shared.modules) parts.ranks[name] = sum.module(name).rank();
  write_adapter(settings, folder, parts);
}

/// What all share and a member's own, joined module by module.
class Member {
 public:
  Member(const PublishedSum& sum, const Scope& shared, std::int64_t number, const Scope& own)
      : sum_(sum), number_(number) {
    parts_.module = [this](const std::string& name) { return joined(name).in_factors(at::kFloat); };
    parts_.dense_part = [this](const std::string& name) { return joined_dense(name); };
    parts_.dense = own.dense;
    parts_.dense.insert(shared.dense.begin(), shared.dense.end());
    for (const Scope* scope : {&shared, &own}) {
      for (const std::string& name : scope->modules) parts_.ranks[name] = joined(name).rank();
    }
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  const tensors::PeftParts& parts() const { return parts_; }

 private:
  ModuleSum joined(const std::string& name) const {
    sum_.forget_pages();
    ModuleSum shared = sum_.module(name);
    ModuleSum own = sum_.module(tensors::member_name(number_, name));
    if (own.is_empty()) return shared;
    return shared.is_empty() ? own : aggregation::add(shared, own.in_factors(at::kDouble));
  }
  at::Tensor joined_dense(const std::string& name) const {
    const at::Tensor shared = sum_.dense(name);
    const at::Tensor own = sum_.dense(tensors::member_name(number_, name));
    if (!own.defined()) return in_float(shared);
    return in_float(shared.defined() ? shared + own : own);
  }

  const PublishedSum& sum_;
  std::int64_t number_;
  tensors::PeftParts parts_;
};

/// Each member as a whole adapter on the base.
void write_members(const GlobalSettings& settings, const fs::path& folder, const PublishedSum& sum,
                   const Scopes& scopes) {
  nlohmann::ordered_json about = {{"members", nlohmann::json::array()},
                                  {"max_rank", max_member_rank(settings.config)},
                                  {"relative_tail", sum.relative_tail()}};
  for (const auto& [number, own] : scopes.members) {
    const std::string name = "member-" + std::to_string(number);
    write_adapter(settings, folder / name, Member(sum, scopes.shared, number, own).parts());
    about["members"].push_back(name);
  }
  core::write_file_atomic(folder / "ensemble.json", core::as_bytes(about.dump(2) + "\n"));
}

nlohmann::ordered_json options_json(const core::Options& options) {
  auto json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : options) {
    std::visit([&, &key = name](const auto& v) { json[key] = v; }, value);
  }
  return json;
}

/// The factors that the posterior is over, as the clients had them, and the sums of their
/// curvature; what a reader needs to know of them is in posterior.json.
void write_posterior(const GlobalSettings& settings, const fs::path& folder,
                     const PosteriorSource& source) {
  tensors::FactorSet posterior = tensors::read_factor_set(source.newest);
  posterior.modules = tensors::read_factor_set(source.first).modules;
  std::erase_if(posterior.dense,
                [](const auto& part) { return !tensors::statistic_name(part.first); });
  tensors::write_factor_set(folder / "posterior.safetensors", posterior);
  const core::TrainingConfig training = core::ClientList(settings.config)[0].training;
  const nlohmann::ordered_json json = {{"format", "drystone-posterior-1"},
                                       {"method", training.method},
                                       {"examples", source.examples},
                                       {"seed", settings.config.seed},
                                       {"rank", training.rank},
                                       {"target_modules", training.target_modules},
                                       {"options", options_json(training.options)}};
  core::write_file_atomic(folder / "posterior.json", core::as_bytes(json.dump(2) + "\n"));
}

}  // namespace

std::int64_t max_member_rank(const core::Config& config) {
  const auto found = config.training.options.find("max_rank");  // members alone have this option
  if (found == config.training.options.end()) return 0;
  const auto* rank = std::get_if<std::int64_t>(&found->second);
  return rank == nullptr ? 0 : *rank;
}

void write_global(const fs::path& folder, const GlobalSettings& settings, const PublishedSum& sum,
                  const PosteriorSource* posterior) {
  fs::create_directories(folder);
  const Scopes scopes = scopes_of(sum);
  if (!scopes.statistics.empty()) {
    tensors::SafetensorsWriter statistics(folder / "statistics.safetensors");
    for (const auto& [name, full] : scopes.statistics) {
      statistics.add(name, in_float(sum.dense(full)));
    }
    statistics.finish();
  }
  if (const auto kept = sum.kept(); !kept.empty()) {
    tensors::write_mask(folder / tensors::kMaskFile, kept);
  }
  write_shared(settings, folder, sum, scopes.shared);
  if (!scopes.members.empty()) write_members(settings, folder, sum, scopes);
  if (posterior != nullptr) write_posterior(settings, folder, *posterior);
}

namespace {

void sync_files(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) {
      core::sync_folder(entry.path());
    } else {
      wire::File::open_for_writing(entry.path()).sync();
    }
  }
  core::sync_folder(folder);
}

}  // namespace

void replace_folder(const fs::path& next, const fs::path& folder) {
  sync_files(next);
  if (!fs::exists(folder)) return wire::rename_durably(next, folder);
  if (::renameat2(AT_FDCWD, next.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
      core::throw_errno(folder, "cannot be replaced");
    fs::remove_all(folder);  // a file system that cannot exchange: for a moment there is none
    return wire::rename_durably(next, folder);
  }
  core::sync_folder(folder.has_parent_path() ? folder.parent_path() : fs::path("."));
  fs::remove_all(next);
}

}  // namespace drystone::coordinator
