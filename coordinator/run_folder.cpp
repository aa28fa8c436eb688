#include "coordinator/run_folder.h"

#include <cstdio>

#include <nlohmann/json.hpp>

#include "aggregation/accumulator.h"
#include "coordinator/report_html.h"
#include "coordinator/version_record.h"
#include "core/check.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/files.h"
#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tensors/peft_io.h"
#include "tensors/pruning.h"
#include "tensors/safetensors_writer.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

MetricsRecorder::MetricsRecorder(const fs::path& dir) : file_(dir / "metrics.jsonl") {}

namespace {

std::int64_t number(std::uint64_t value) { return static_cast<std::int64_t>(value); }

double rate(std::uint64_t count, double seconds) {
  return seconds > 0.0 ? static_cast<double>(count) / seconds : 0.0;
}

}  // namespace

void MetricsRecorder::on_joined(const std::string& client, const wire::Hello& hello) {
  file_.write("joined",
              {{"client", client}, {"device", hello.device}, {"software", hello.software}});
}

void MetricsRecorder::on_planned(const wire::RoundPlan& plan) {
  file_.write("planned", {{"round", number(plan.round)},
                          {"attempt", number(plan.attempt)},
                          {"version", number(plan.base_version)},
                          {"asked", number(plan.cohort.size())}});
}

void MetricsRecorder::on_progress(const std::string& client, const wire::Progress& progress) {
  peak_bytes_[client] = progress.peak_bytes;
}

void MetricsRecorder::on_accepted(const wire::UpdateManifest& manifest, double seconds) {
  file_.write("update", {{"round", number(manifest.round)},
                         {"client", manifest.client},
                         {"method", manifest.method},
                         {"loss", manifest.train_loss},
                         {"examples", number(manifest.num_examples)},
                         {"steps", number(manifest.num_steps)},
                         {"tokens", number(manifest.num_tokens)},
                         {"passes", number(manifest.num_passes)},
                         {"bytes", number(manifest.payload_bytes)},
                         {"seconds", seconds},
                         {"tokens_per_second", rate(manifest.num_tokens, seconds)},
                         {"peak_bytes", number(peak_bytes_[manifest.client])}});
}

void MetricsRecorder::on_refused(const std::string& client, const core::Failure& failure) {
  file_.write(
      "refused",
      {{"client", client}, {"reason", core::name(failure.code)}, {"detail", failure.detail}});
}

void MetricsRecorder::on_abandoned(std::uint64_t round, const std::string& reason) {
  file_.write("abandoned", {{"round", number(round)}, {"reason", reason}});
}

void MetricsRecorder::on_published(const RoundReport& round) {
  file_.write("published", {{"round", number(round.round)},
                            {"version", number(round.version)},
                            {"accepted", number(round.accepted)},
                            {"loss", round.train_loss},
                            {"bytes_up", number(round.bytes_up)},
                            {"bytes_down", number(round.bytes_down)},
                            {"stack_rank", round.stack_rank},
                            {"compact_rank", round.compact_rank},
                            {"tokens", number(round.tokens)},
                            {"passes", number(round.passes)},
                            {"seconds", round.seconds},
                            {"tokens_per_second", rate(round.tokens, round.seconds)},
                            {"peak_bytes", number(core::peak_rss_bytes())}});
}

void MetricsRecorder::on_evaluated(std::uint64_t version, const Metrics& metrics) {
  std::vector<core::MetricField> fields = {{"version", number(version)}};
  for (const auto& [name, value] : metrics) fields.push_back({name, value});
  file_.write("evaluated", fields);
}

namespace {

fs::path version_dir(const fs::path& dir, std::uint64_t version) {
  char name[24];
  std::snprintf(name, sizeof name, "%04llu", static_cast<unsigned long long>(version));
  return dir / "versions" / name;
}

/// The bound on what members of an ensemble accumulate: the one of [training].
std::int64_t max_member_rank(const core::Config& config) {
  const auto found = config.training.options.find("max_rank");
  if (config.training.method != "lora-ensemble" || found == config.training.options.end()) return 0;
  const auto* rank = std::get_if<std::int64_t>(&found->second);
  return rank == nullptr ? 0 : *rank;
}

// A second name for the blob where the file system allows it, else a copy.
void place(const fs::path& blob, const fs::path& target) {
  std::error_code error;
  if (fs::exists(target)) return;
  fs::create_hard_link(blob, target, error);
  if (error) fs::copy_file(blob, target);
}

void write_version(const RunFolder& folder, Store& store, std::uint64_t version) {
  const fs::path dir = version_dir(folder.dir, version);
  fs::create_directories(dir / "updates");
  const VersionRecord record = make_record(store, folder.roster, folder.coordinator, version);
  core::write_file_atomic(dir / "version.json", core::as_bytes(to_json(record)));
  const auto manifest = wire::decode_version(record.manifest.bytes);
  core::ensure(manifest.has_value(), "run folder: unreadable manifest");
  place(store.blobs().path(manifest->payload), dir / "factors.safetensors");
  for (const RecordedUpdate& update : record.updates) {
    const auto claim = wire::decode_update(update.manifest.bytes);
    core::ensure(claim.has_value(), "run folder: unreadable update");
    if (!store.blobs().contains(claim->payload)) continue;  // output.keep_updates = false
    place(store.blobs().path(claim->payload), dir / "updates" / (update.client + ".safetensors"));
  }
}

/// What methods collected beside the model, by name without its scope.
std::map<std::string, at::Tensor> take_statistics(tensors::FactorSet& global) {
  std::map<std::string, at::Tensor> statistics;
  std::erase_if(global.dense, [&](const auto& part) {
    const auto statistic = tensors::statistic_name(part.first);
    if (statistic) statistics[*statistic] = part.second;
    return statistic.has_value();
  });
  return statistics;
}

/// The masks that follow from all versions so far, as clients find them.
class Pruning {
 public:
  void apply(std::uint64_t version, const tensors::FactorSet& published) {
    for (const auto& [name, tensor] : published.dense) {
      const auto statistic = tensors::statistic_name(name);
      if (statistic) tensors::add_statistic(statistics_, *statistic, tensor);
    }
    kept_ = tensors::next_mask(kept_, version, statistics_);
  }
  const tensors::KeptGroups& kept() const { return kept_; }

 private:
  std::map<std::string, at::Tensor> statistics_;
  tensors::KeptGroups kept_;
};

void write_adapter(const RunFolder& folder, const fs::path& dir,
                   const tensors::FactorSet& adapter) {
  fs::create_directories(dir);
  if (!adapter.modules.empty()) {
    const bool is_lm = folder.config.model.task == "causal-lm";
    tensors::write_peft(
        dir, adapter,
        {.base_model = folder.base_model, .task_type = is_lm ? "CAUSAL_LM" : "SEQ_CLS"});
  }
  const nlohmann::json evaluation = {{"max_length", folder.config.model.max_length}};
  core::write_file_atomic(dir / "evaluation.json", core::as_bytes(evaluation.dump() + "\n"));
  if (!folder.config.data.labels.empty()) {
    const nlohmann::json labels = folder.config.data.labels;
    core::write_file_atomic(dir / "labels.json", core::as_bytes(labels.dump() + "\n"));
  }
}

/// global/member-<k>: each a whole adapter on the base, what all share included.
void write_members(const RunFolder& folder, const tensors::SplitSet& global, double tail) {
  const fs::path dir = folder.dir / "global";
  nlohmann::ordered_json about = {{"members", nlohmann::json::array()},
                                  {"max_rank", max_member_rank(folder.config)},
                                  {"relative_tail", tail}};
  for (const auto& [number, member] : global.members) {
    aggregation::Accumulator sum;
    sum.apply(global.shared, aggregation::Publish::Add);
    sum.apply(member, aggregation::Publish::Add);
    const std::string name = "member-" + std::to_string(number);
    write_adapter(folder, dir / name, sum.total());
    about["members"].push_back(name);
  }
  core::write_file_atomic(dir / "ensemble.json", core::as_bytes(about.dump(2) + "\n"));
}

void write_global(const RunFolder& folder, std::uint64_t newest) {
  aggregation::Accumulator total(max_member_rank(folder.config));
  Pruning pruning;
  for (std::uint64_t version = 0; version <= newest; ++version) {
    const fs::path dir = version_dir(folder.dir, version);
    const VersionRecord record =
        record_from_json(core::read_text_file(dir / "version.json", kMaxRecordBytes));
    const auto manifest = wire::decode_version(record.manifest.bytes);
    core::ensure(manifest.has_value(), "run folder: unreadable manifest");
    const tensors::FactorSet published = tensors::read_factor_set(dir / "factors.safetensors");
    pruning.apply(version, published);
    total.apply(published, manifest->mode == wire::PublishMode::Add
                               ? aggregation::Publish::Add
                               : aggregation::Publish::Replace);
  }
  tensors::SplitSet global = tensors::split_members(total.total());
  const fs::path dir = folder.dir / "global";
  fs::create_directories(dir);
  const auto statistics = take_statistics(global.shared);
  if (!statistics.empty()) tensors::write_safetensors(dir / "statistics.safetensors", statistics);
  if (!pruning.kept().empty()) tensors::write_mask(dir / tensors::kMaskFile, pruning.kept());
  write_adapter(folder, dir, global.shared);
  if (!global.members.empty()) write_members(folder, global, total.relative_tail());
}

std::uint64_t examples_of(const RunFolder& folder, std::uint64_t version) {
  const fs::path file = version_dir(folder.dir, version) / "version.json";
  std::uint64_t examples = 0;
  for (const RecordedUpdate& update :
       record_from_json(core::read_text_file(file, kMaxRecordBytes)).updates) {
    const auto claim = wire::decode_update(update.manifest.bytes);
    core::ensure(claim.has_value(), "run folder: unreadable update");
    examples += claim->num_examples;
  }
  return examples;
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
void write_posterior(const RunFolder& folder, std::uint64_t newest) {
  const fs::path dir = folder.dir / "global";
  const auto payload = [&](std::uint64_t version) {
    return tensors::read_factor_set(version_dir(folder.dir, version) / "factors.safetensors");
  };
  tensors::FactorSet posterior = payload(newest);
  posterior.modules = payload(0).modules;
  std::erase_if(posterior.dense,
                [](const auto& part) { return !tensors::statistic_name(part.first); });
  tensors::write_factor_set(dir / "posterior.safetensors", posterior);
  const core::TrainingConfig training = core::list_clients(folder.config).front().training;
  const nlohmann::ordered_json json = {{"format", "drystone-posterior-1"},
                                       {"method", training.method},
                                       {"examples", examples_of(folder, newest)},
                                       {"seed", folder.config.seed},
                                       {"rank", training.rank},
                                       {"target_modules", training.target_modules},
                                       {"options", options_json(training.options)}};
  core::write_file_atomic(dir / "posterior.json", core::as_bytes(json.dump(2) + "\n"));
}

}  // namespace

void write_run_folder(const RunFolder& folder, Coordinator& coordinator) {
  fs::create_directories(folder.dir);
  const auto write_text = [&](const char* name, const std::string& text) {
    core::write_file_atomic(folder.dir / name, core::as_bytes(text));
  };
  write_text("config.toml", core::to_toml(folder.config));
  const RunReport report = coordinator.report();
  write_text("report.json", to_json(report));
  write_text("report.html", to_html(report));
  const std::uint64_t newest = coordinator.store().load().version;
  for (std::uint64_t version = 0; version <= newest; ++version) {
    write_version(folder, coordinator.store(), version);
  }
  write_global(folder, newest);
  if (newest > 0 && core::collects_posterior(folder.config)) write_posterior(folder, newest);
}

}  // namespace drystone::coordinator
